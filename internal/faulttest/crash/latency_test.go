//go:build linux

package crash

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"capagent/internal/faulttest"
)

var (
	latencyFlag     = flag.Int("crash.latency", 30, "files to measure")
	latencyMostFlag = flag.Duration("crash.latency-most", time.Second, "the longest that is accepted beyond the settle time; a busy machine needs more")
)

// TestLatency measures from the close of a file to the first byte of its content
// at the server.
func TestLatency(t *testing.T) {
	small, large, err := latencies(t.Context(), program(t), rand.New(rand.NewPCG(seed(t), 8)), *latencyFlag)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("from close to the first byte, settle = %v: up to 20 kB: %v; 1 to 2 MB: %v", latencySettle, small, large)
	for _, kind := range []*durations{small, large} {
		if worst := kind.worst(); worst > latencySettle+*latencyMostFlag {
			t.Errorf("%v, want at most %v and %v", worst, latencySettle, *latencyMostFlag)
		}
	}
}

const latencySettle = 100 * time.Millisecond

func latencies(ctx context.Context, bin string, random *rand.Rand, files int) (small, large *durations, err error) {
	dir, remove, err := memory()
	if err != nil {
		return nil, nil, err
	}
	defer remove()
	tap, err := faulttest.StartTap(ctx)
	if err != nil {
		return nil, nil, err
	}
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte("0123456789abcdef0123456789abcdef\n"), 0o600); err != nil {
		return nil, nil, err
	}
	w := faulttest.Watch{Path: filepath.Join(dir, "watch"), After: "keep"}
	agent := &faulttest.Agent{Program: bin, Dir: dir, StateDir: filepath.Join(dir, "state"), Watches: []faulttest.Watch{w}, Settle: latencySettle}
	if err := agent.Configure(tap.URL, token); err != nil {
		return nil, nil, err
	}
	p, err := agent.Run(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer p.Kill()
	if err := p.WaitReady(10 * time.Second); err != nil {
		return nil, nil, err
	}
	small, large = &durations{}, &durations{}
	for i := range files {
		size, kind := 200+random.IntN(20_000), small
		if i%10 == 9 {
			size, kind = 1<<20+random.IntN(1<<20), large
		}
		took, err := closeToFirstByte(tap, filepath.Join(w.Path, fmt.Sprintf("%04d.pcap", i)), faulttest.Capture(uint64(i), size))
		if err != nil {
			return nil, nil, fmt.Errorf("%w\n%s", err, p.Tail(20))
		}
		kind.add(took)
		time.Sleep(time.Duration(random.IntN(80)) * time.Millisecond)
	}
	return small, large, nil
}

func closeToFirstByte(tap *faulttest.Tap, path string, data []byte) (time.Duration, error) {
	f, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	if _, err := f.Write(data); err != nil {
		return 0, err
	}
	if err := f.Close(); err != nil {
		return 0, err
	}
	closed, sum := time.Now(), faulttest.Sum(data)
	for time.Since(closed) < 10*time.Second {
		if at, ok := tap.First(sum); ok {
			return at.Sub(closed), nil
		}
		time.Sleep(time.Millisecond)
	}
	return 0, fmt.Errorf("%s is not sent", path)
}
