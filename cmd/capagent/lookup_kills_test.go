//go:build unix

package main

import (
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"capagent/internal/ledger"
	"capagent/service"
)

var lookupKills = flag.Int("lookup.kills", 5, "kill -9 of an agent that looks up, uploads, annotates and writes back")

// TestKillsWhileSessionsAreExplained: whenever the agent is killed, each capture has one
// session in the end, each finding one annotation, and no observation is made twice.
func TestKillsWhileSessionsAreExplained(t *testing.T) {
	t.Parallel()
	e := newExplainedAgent(t, "report_sightings = true\nrate = 100\n")
	beacon := readFile(t, filepath.Join("..", "..", "examples", "captures", "branch-office", "beacon.pcap"))
	files := *lookupKills * 2
	for n := range files {
		// One packet more makes it another capture with the same indicators.
		more := append([]byte{}, beacon[24:40]...)
		binary.LittleEndian.PutUint32(more[8:], 60)
		binary.LittleEndian.PutUint32(more[12:], 60)
		more = binary.LittleEndian.AppendUint32(more, uint32(n))
		more = append(more, make([]byte, 56)...)
		writeFile(t, filepath.Join(e.folder, fmt.Sprintf("%d.pcap", n)), append(append([]byte{}, beacon...), more...), 0o600)
	}
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	for range *lookupKills {
		a := launchDaemon(t, e.config)
		time.Sleep(time.Duration(50+random.IntN(400)) * time.Millisecond) // where it is killed is left to chance
		_ = a.cmd.Process.Kill()
		<-a.ended
	}
	startDaemon(t, e.config)
	findings, packets := 0, map[int64]bool{}
	for n := range files {
		v := e.capture(t, fmt.Sprintf("%d.pcap", n), in(ledger.Done))
		findings = len(v.Findings)
		for _, f := range v.Findings {
			packets[f.FirstFrame] = true
		}
	}
	e.over(t, service.Annotation)
	e.over(t, service.Observation)
	sessions, err := filepath.Glob(filepath.Join(e.s.Dir, "captures", "*.json"))
	if err != nil || len(sessions) != files {
		t.Errorf("%d sessions of %d captures, %v", len(sessions), files, err)
	}
	for _, path := range sessions {
		var s struct {
			Tags        []string
			Annotations []struct {
				Frame int64
				Text  string
			}
		}
		if err := json.Unmarshal(readFile(t, path), &s); err != nil {
			t.Fatal(err)
		}
		if slices.Sort(s.Tags); len(slices.Compact(slices.Clone(s.Tags))) != len(s.Tags) || len(s.Tags) == 0 {
			t.Errorf("%s: tags %q", path, s.Tags)
		}
		told := 0
		for _, note := range s.Annotations {
			told += strings.Count(note.Text, "confidence")
		}
		if len(s.Annotations) != len(packets) || told != findings {
			t.Errorf("%s: %d annotations of %d, of %d findings for %d", path, len(s.Annotations), len(packets), told, findings)
		}
	}
	observed := map[int64]int{}
	for _, o := range e.tc.Observations() {
		observed[o.Indicator]++
	}
	for id, n := range observed {
		if n > files || n < files-*lookupKills {
			t.Errorf("%d observations of %d, of %d captures", n, id, files)
		}
	}
	t.Logf("%d kills, %d captures, %d findings each, observations %v", *lookupKills, files, findings, observed)
}

// over waits until nothing is left to do of that kind.
func (e *explainedAgent) over(t *testing.T, act string) {
	t.Helper()
	l, err := ledger.Open(t.Context(), filepath.Join(e.state, "ledger.db"), ledger.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }() // only read
	for end := time.Now().Add(3 * patience); ; time.Sleep(50 * time.Millisecond) {
		ids, err := l.Unacted(t.Context(), act, 1)
		if err != nil || time.Now().After(end) {
			t.Fatal(act, ids, err)
		}
		if len(ids) == 0 {
			return
		}
	}
}
