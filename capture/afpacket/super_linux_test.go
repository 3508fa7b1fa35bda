package afpacket_test

import (
	"context"
	"io"
	"net"
	"net/netip"
	"slices"
	"testing"

	"capagent/internal/traffic"
)

var addressed = traffic.Options{Addresses: [2]netip.Prefix{netip.MustParsePrefix("10.99.0.1/24"), netip.MustParsePrefix("10.99.0.2/24")}}

// Frames that the kernel puts together or leaves in one piece are larger than
// anything on a wire.
func TestSuperPacketsAreWhole(t *testing.T) {
	t.Parallel()
	o := addressed
	o.Offloads, o.MTU = true, 1500
	p := newPair(t, o)
	const length = 20 << 20
	for name, c := range map[string]settings{"large": {Options: rx()}, "small blocks": {Options: rx()}} {
		t.Run(name, func(t *testing.T) {
			if name == "large" {
				c.Buffer = 64 << 20
			}
			s := begin(t, p, c)
			transfer(t, p, "10.99.0.2:0", length)
			largest, bytes, cut := 0, 0, 0
			for _, r := range s.stop() {
				if len(r.Data) != int(r.Length) {
					cut++
				}
				largest = max(largest, len(r.Data))
				if len(r.Data) > 66 && slices.Equal(r.Data[26:30], []byte{10, 99, 0, 1}) {
					bytes += len(r.Data) - 66
				}
			}
			st := s.src.Stats()[0]
			t.Logf("largest %d, %+v", largest, st)
			if largest < 60_000 || cut > 0 {
				t.Errorf("largest packet %d bytes, %d are cut", largest, cut)
			}
			if st.Dropped == 0 && bytes < length {
				t.Errorf("%d bytes of payload came of %d", bytes, length)
			}
		})
	}
}

// BIG TCP has packets over 64 KiB.
func TestBigTCP(t *testing.T) {
	t.Parallel()
	p := newPair(t, traffic.Options{Addresses: overIPv6, Offloads: true, MTU: 1500})
	for _, side := range []traffic.Side{traffic.TX, traffic.RX} {
		c := p.Command(t.Context(), side, "ip", "link", "set", side.Interface(), "gso_max_size", "200000", "gro_max_size", "200000")
		if out, err := c.CombinedOutput(); err != nil {
			t.Skipf("no BIG TCP here: %v: %s", err, out)
		}
	}
	c := settings{Options: rx()}
	c.Buffer = 64 << 20
	s := begin(t, p, c)
	transfer(t, p, "[fd00::2]:0", 20<<20)
	largest, cut := 0, 0
	for _, r := range s.stop() {
		if len(r.Data) != int(r.Length) {
			cut++
		}
		largest = max(largest, len(r.Data))
	}
	t.Logf("largest %d, %+v", largest, s.src.Stats())
	if largest < 70_000 || cut > 0 {
		t.Errorf("largest packet %d bytes, %d are cut", largest, cut)
	}
}

var overIPv6 = [2]netip.Prefix{netip.MustParsePrefix("fd00::1/64"), netip.MustParsePrefix("fd00::2/64")}

// transfer sends n bytes by TCP to the receiving side.
func transfer(t *testing.T, p *traffic.Pair, address string, n int64) {
	t.Helper()
	var l net.Listener
	if err := p.Do(traffic.RX, func() (err error) {
		l, err = new(net.ListenConfig).Listen(context.Background(), "tcp", address)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	received := make(chan int64)
	go func() {
		c, err := l.Accept()
		if err != nil {
			received <- 0
			return
		}
		defer c.Close()
		k, _ := io.Copy(io.Discard, c)
		received <- k
	}()
	if err := p.Do(traffic.TX, func() error {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = io.CopyN(c, zeros{}, n)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if k := <-received; k != n {
		t.Fatalf("%d bytes arrived of %d", k, n)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }
