package main

import (
	"flag"
	"fmt"
	"testing"
	"time"

	"capagent/internal/traffic"
	"capagent/service/control"
)

var rotations = flag.Int("live.rotations", 10, "files that TestFiftyRotationsAtFullRate fills at least; from 50 on they are of 100,000 packets, and the kernel may drop none")

// accounted waits until the agent has taken, or knows to be dropped, so many packets.
func (s *sensor) accounted(packets uint64) (c control.Capture) {
	s.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if c = s.status().Captures[0]; c.Packets+c.Dropped+c.Lost >= packets {
			return c
		}
	}
	s.t.Fatalf("%d arrived: %+v\n%s", packets, c, s.log)
	return c
}

func (s *sensor) arrived() uint64 {
	s.t.Helper()
	c, err := s.Counters(traffic.RX)
	if err != nil {
		s.t.Fatal(err)
	}
	return c.RxPackets
}

// From file to file at full rate, each packet that reached the interface is there
// once and in order, but for those that the agent says the kernel dropped.
func TestFiftyRotationsAtFullRate(t *testing.T) {
	long := *rotations >= 50
	full := 10_000
	if long {
		full = 100_000
	}
	s := newSensor(t, held+fmt.Sprintf("[[capture]]\nname = \"lan\"\ninterface = \"vethrx\"\n[capture.rotate]\npackets = %d\n", full))
	s.start()
	s.answers()
	s.taken(0)
	before := s.arrived()
	load := traffic.Load{Size: 512, CPUs: []int{0}} // one processor, or veth itself puts them out of order
	load.Count = uint64(*rotations*full + full/2)
	sent := s.send(load)
	// What the kernel dropped fills no file.
	for s.accounted(s.arrived()-before).Files < uint64(*rotations) {
		load.First += load.Count
		load.Count = uint64(full)
		s.send(load)
	}
	arrived := s.arrived() - before
	s.stop()

	var kept, doubled, disordered, next uint64
	files := s.spool(".pcapng")
	for _, path := range files {
		for _, p := range readNumbered(t, path) {
			switch {
			case p.number+1 == next:
				doubled++
			case p.number < next:
				disordered++
			}
			kept, next = kept+1, p.number+1
		}
	}
	var rows, packets, dropped uint64
	for i, v := range s.captures() {
		rows, packets, dropped = rows+1, packets+uint64(v.Packets), dropped+v.Capture.Dropped
		if i < *rotations && (v.Packets != int64(full) || v.Capture.Reason != "packets") {
			t.Errorf("%d packets, ended by %s: %s", v.Packets, v.Capture.Reason, v.Path)
		}
	}
	if kept+dropped != arrived || doubled+disordered > 0 {
		t.Errorf("%d arrived, %d are kept and %d dropped; %d are doubled, %d out of order", arrived, kept, dropped, doubled, disordered)
	}
	if rows != uint64(len(files)) || packets != kept || rows <= uint64(*rotations) || len(s.spool(".part")) > 0 {
		t.Errorf("%d files with %d packets, %d rows with %d; %q", len(files), kept, rows, packets, s.spool(".part"))
	}
	if long && dropped > 0 {
		t.Errorf("the kernel dropped %d", dropped)
	}
	t.Logf("%d rotations at %.0f packets a second: %d arrived, %d kept, %d dropped", rows-1, sent.Rate(), arrived, kept, dropped)
}
