package afpacket_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"capagent/capture"
	"capagent/capture/afpacket"
	"capagent/internal/traffic"
)

// mapped counts the rings that this process has mapped.
func mapped(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(text), "socket:[")
}

// A ring into which nothing comes is not mapped, and whatever comes then is
// captured: single packets, a burst, and what came right before the end.
func TestAQuietRingIsUnmappedAndLosesNothing(t *testing.T) {
	p := newPair(t, traffic.Options{})
	for _, fanout := range []int{1, 3} {
		t.Run(fmt.Sprint(fanout, " rings"), func(t *testing.T) { rests(t, p, fanout) })
	}
}

func rests(t *testing.T, p *traffic.Pair, fanout int) {
	before := mapped(t)
	c := settings{Options: rx(), count: true}
	c.Fanout = fanout
	c.open = func(ctx context.Context, o capture.Options) (capture.Source, error) {
		src, err := afpacket.Open(ctx, o)
		if err == nil {
			afpacket.RestAfter(src, 200*time.Millisecond)
		}
		return src, err
	}
	s := begin(t, p, c)
	sent := uint64(0)
	for _, n := range []uint64{0, 1, 5000, 1, 20_000} {
		if n > 0 {
			send(t, p, traffic.Load{Size: 200, Count: n, First: sent})
		}
		sent += n
		s.wait("all packets", func() bool { return uint64(len(s.records)) >= sent })
		s.wait("rest", func() bool { return mapped(t) == before })
	}
	send(t, p, traffic.Load{Size: 200, Count: 300, First: sent})
	wantAll(t, s.stop(), sent+300, fanout == 1)
	if st := s.src.Stats()[0]; st.Received != sent+300 || st.Dropped != 0 {
		t.Errorf("%+v of %d", st, sent+300)
	}
}
