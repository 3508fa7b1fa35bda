//go:build unix

package main

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"capagent/enrich/cadotest"
	"capagent/internal/ledger"
)

var deliverKills = flag.Int("deliver.kills", 5, "kill -9 of an agent that uploads and imports into Cado")

// TestKillsWhileCapturesAreImported: whenever the agent is killed, each capture has one
// session in the end, and one import, in one project.
func TestKillsWhileCapturesAreImported(t *testing.T) {
	t.Parallel()
	p := newPlatforms(t)
	e := newExplainedAgent(t, "rate = 100\n"+p.tables)
	beacon := readFile(t, filepath.Join("..", "..", "examples", "captures", "branch-office", "beacon.pcap"))
	files := *deliverKills * 2
	for n := range files {
		pcap := append([]byte{}, beacon...)
		pcap[24+16+14+20] ^= byte(n) // other bytes, another capture
		pcap[24+16+14+19] ^= byte(n >> 8)
		writeFile(t, filepath.Join(e.folder, fmt.Sprintf("%d.pcap", n)), pcap, 0o600)
	}
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	for range *deliverKills {
		a := launchDaemon(t, e.config)
		time.Sleep(time.Duration(50+random.IntN(1200)) * time.Millisecond) // where it is killed is left to chance
		_ = a.cmd.Process.Kill()
		<-a.ended
	}
	startDaemon(t, e.config)
	for n := range files {
		if d := e.delivered(t, fmt.Sprintf("%d.pcap", n), "cado"); d.State != ledger.DeliveryDone {
			t.Errorf("%d.pcap: %+v", n, d)
		}
	}
	sessions, err := filepath.Glob(filepath.Join(e.s.Dir, "captures", "*.json"))
	if err != nil || len(sessions) != files {
		t.Errorf("%d sessions of %d captures, %v", len(sessions), files, err)
	}
	imports := map[string]int{}
	for _, one := range p.cado.Pipelines() {
		if one.Type == "acquisition" && filepath.Ext(one.Evidence) == ".pcap" {
			imports[one.Evidence]++
		}
	}
	for name, n := range imports {
		if n != 1 {
			t.Errorf("%s is imported %d times", name, n)
		}
	}
	if len(imports) != files || len(p.cado.Projects()) != 1 || p.cado.Counted("duplicate") != 0 {
		t.Errorf("%d imports of %d captures into %v, %d twice: %+v", len(imports), files, p.cado.Projects(), p.cado.Counted("duplicate"), first(p.cado.Pipelines(), 5))
	}
	t.Logf("%d kills, %d captures, %d imports", *deliverKills, files, len(imports))
}

func first(list []cadotest.Pipeline, n int) []cadotest.Pipeline { return list[:min(len(list), n)] }
