//go:build unix

package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"flag"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"capagent/internal/config"
	"capagent/internal/ledger"
	"capagent/internal/race"
)

var (
	campaignFiles = flag.Int("campaign.files", 300, "captures to import")
	campaignKills = flag.Int("campaign.kills", 5, "kills during the import")
	campaignBig   = flag.String("campaign.big", "256MiB", "size of the big capture")
)

// Whatever moment the process dies at, running the same command again ends with
// every capture in exactly one session.
func TestImportSurvivesKills(t *testing.T) {
	t.Parallel()
	s := startSandbox(t)
	evidence := t.TempDir()
	if err := makeCaptures(evidence, *campaignFiles); err != nil {
		t.Fatal(err)
	}

	// The kills are spread over the whole work: each comes at a random moment
	// after some more captures have arrived, the first one while files are read.
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	killed := 0
	for killed < *campaignKills {
		reach := *campaignFiles * killed / (*campaignKills + 1)
		if !killAfter(t, s, reach, time.Duration(random.Int64N(int64(20*time.Millisecond))), "import", "--quiet", evidence) {
			break
		}
		killed++
	}
	t.Logf("%d kills; %d sessions so far", killed, countSessions(t, s.Dir))
	if killed < *campaignKills/2 {
		t.Fatal("too few runs were killed: the test shows nothing")
	}

	dir := t.TempDir()
	csvFile, sums, jsonFile := filepath.Join(dir, "m.csv"), filepath.Join(dir, "m.sha256"), filepath.Join(dir, "m.json")
	cmd := program(t.Context(), nil, "--config", s.Config, "import", "--quiet", "--manifest", csvFile, "--manifest", sums, "--manifest", jsonFile, evidence)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("last import: %v\n%s", err, out)
	}
	if got := countSessions(t, s.Dir); got != *campaignFiles {
		t.Errorf("%d sessions, want %d", got, *campaignFiles)
	}
	if out, err := exec.CommandContext(t.Context(), "sha256sum", "-c", "--quiet", "--strict", sums).CombinedOutput(); err != nil {
		t.Errorf("sha256sum -c: %v\n%s", err, out)
	}
	checkManifest(t, csvFile, *campaignFiles)
}

// Two imports of the same tree at once share the work.
func TestTwoImportsAtOnceUploadEachCaptureOnce(t *testing.T) {
	t.Parallel()
	s := startSandbox(t)
	evidence := t.TempDir()
	if err := makeCaptures(evidence, 100); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			out, err := program(t.Context(), nil, "--config", s.Config, "import", "--quiet", evidence).CombinedOutput()
			if err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
	wg.Wait()
	if n := countSessions(t, s.Dir); n != 100 {
		t.Errorf("%d sessions", n)
	}
}

// killAfter runs capagent until the sandbox has so many sessions, and a moment
// longer, and kills it. It reports false when the command ended before.
func killAfter(t *testing.T, s sandboxProcess, sessions int, moment time.Duration, args ...string) bool {
	t.Helper()
	cmd := program(t.Context(), nil, append([]string{"--config", s.Config}, args...)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for countSessions(t, s.Dir) < sessions {
		select {
		case err := <-ended:
			if err != nil {
				t.Fatalf("import ended by itself: %v\n%s", err, &out)
			}
			return false
		case <-tick.C:
		}
	}
	time.AfterFunc(moment, func() { _ = cmd.Process.Kill() }) // it may be gone by then
	<-ended
	ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	return ok && ws.Signal() == syscall.SIGKILL
}

// checkManifest wants a session of its own for every line, in time's order.
func checkManifest(t *testing.T, path string, files int) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != files+1 {
		t.Fatalf("manifest has %d lines, want %d", len(rows), files+1)
	}
	column := map[string]int{}
	for i, name := range rows[0] {
		column[name] = i
	}
	sessions, last := map[string]bool{}, ""
	for _, row := range rows[1:] {
		id, state, first := row[column["session_id"]], row[column["state"]], row[column["first"]]
		if id == "" || sessions[id] || state != string(ledger.Done) {
			t.Errorf("%s: session %q, state %s", row[0], id, state)
		}
		if first < last {
			t.Errorf("%s: first packet %s comes after %s", row[0], first, last)
		}
		sessions[id], last = true, first
	}
}

// A capture far larger than the memory that the process may use.
func TestBigFileStaysSmall(t *testing.T) {
	t.Parallel()
	var size config.Size
	if err := size.UnmarshalText([]byte(*campaignBig)); err != nil {
		t.Fatal(err)
	}
	s := startSandbox(t)
	path := filepath.Join(t.TempDir(), "big.pcap")
	writeBig(t, path, int64(size))
	cmd := program(t.Context(), nil, "--config", s.Config, "--json", "upload", path)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	start := time.Now()
	out, rss, err := outputAndPeak(cmd)
	if err != nil {
		t.Fatalf("upload: %v\n%s", err, &stderr)
	}
	var v struct {
		State string `json:"state"`
		Size  int64  `json:"size"`
	}
	if err := json.Unmarshal(out, &v); err != nil || v.State != "done" || v.Size < int64(size) {
		t.Fatalf("%v: %s", err, out)
	}
	t.Logf("%d bytes in %v, at most %d MB resident", v.Size, time.Since(start).Round(time.Millisecond), rss)
	if limit := int64(64); rss >= limit && !race.Enabled {
		t.Errorf("%d MB resident, want less than %d", rss, limit)
	}
}

func writeBig(t *testing.T, path string, size int64) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	head := smallCapture(0)[:24]
	record := make([]byte, 0, 1<<20)
	for len(record)+1516 <= cap(record) {
		record = append(record, 0, 0, 0, 0x69, 0, 0, 0, 0, 0xdc, 5, 0, 0, 0xdc, 5, 0, 0)
		record = append(record, make([]byte, 1500)...)
	}
	if _, err := f.Write(head); err != nil {
		t.Fatal(err)
	}
	for n := int64(0); n < size; n += int64(len(record)) {
		if _, err := f.Write(record); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
