package main

import (
	"os"
	"path/filepath"
	"testing"

	"capagent/internal/pcapio"
)

// TestRoundsAreOtherFlows: a mix is as large as was asked, all of it can be read,
// in the order of time, and each round has addresses of its own.
func TestRoundsAreOtherFlows(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mix.pcap")
	packets, err := mix(path, []string{filepath.Join("..", "..", "..", "examples", "captures")}, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	r, err := pcapio.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var p pcapio.Packet
	var n, before int64
	sources := map[[4]byte]bool{}
	for r.Next(&p) == nil {
		if p.Time < before {
			t.Fatalf("packet %d is older than the one before", n)
		}
		n, before = n+1, p.Time
		if len(p.Data) > 34 && p.Data[12] == 8 && p.Data[13] == 0 {
			sources[[4]byte(p.Data[26:30])] = true
		}
	}
	if n != packets || r.Offset() < 1<<20 || len(sources) < 20 {
		t.Errorf("%d packets of %d, %d bytes, %d sources", n, packets, r.Offset(), len(sources))
	}
}
