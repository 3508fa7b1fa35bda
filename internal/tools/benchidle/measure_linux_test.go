package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestTheRingIsToldFromOtherMemory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "smaps")
	text := `00400000-00a00000 r-xp 00000000 fd:00 1 /usr/bin/capagent
Size:               6144 kB
Rss:                6144 kB
7f0000000000-7f0000400000 rw-s 00000000 00:08 77 socket:[77]
Rss:                4096 kB
VmFlags: rd wr sh
7f1000000000-7f1000400000 rw-p 00000000 00:00 0
Rss:                1024 kB
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := ringOf(file); n != 4<<20 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if n := figure(file, "Rss"); n != 6144<<10 {
		t.Errorf("%d", n)
	}
}

func TestProcessorTimeIsReadBehindAName(t *testing.T) {
	if d := cpuOf([]byte("7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 150 27 0 0 20 0")); d != 1770*time.Millisecond {
		t.Error(d)
	}
}

func TestAnAgentThatTakesTooMuchIsAFailure(t *testing.T) {
	at := time.Unix(1_800_000_000, 0)
	b := &bench{options: options{maxCPU: 0.3, maxRSS: 40}, agents: []*agent{{
		way: way{name: "x"}, from: reading{at: at},
		to: reading{at: at.Add(10 * time.Minute), cpu: 1790 * time.Millisecond}, most: memory{rss: 40e6, ring: 2e6},
	}}}
	var out strings.Builder
	if err := b.table(&out); err != nil || !strings.Contains(out.String(), "| x | 0.298 | 40.0 | 2.0 |") {
		t.Errorf("%v\n%s", err, &out)
	}
	b.agents[0].to.cpu = 1810 * time.Millisecond
	b.agents[0].most.rss += 100
	if err := b.table(&out); err == nil || strings.Count(err.Error(), "x: ") != 2 {
		t.Errorf("%v", err)
	}
}
