package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"capagent/internal/pcapio"
	"capagent/internal/traffic"
)

var program string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "benchcapture-")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		program = filepath.Join(dir, "capagent")
		return m.Run()
	}())
}

// build makes the program that is measured, once.
var build = sync.OnceValue(func() error {
	out, err := exec.Command("go", "build", "-o", program, "capagent/cmd/capagent").CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
})

// short is a run that takes seconds, of the real command.
func short(t *testing.T, args ...string) (*bencher, *bytes.Buffer) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip(err)
	}
	o, err := parse(append([]string{
		"-for", "300ms", "-settle", "300ms", "-runs", "1", "-attempts", "1", "-quiet", "0",
		"-sizes", "200", "-sustained", "0", "-overload", "0", "-sender-cpu", "-1", "-capture-cpu", "-1", "-ring", "16",
		"-capagent", program,
	}, args...))
	if err != nil {
		t.Fatal(err)
	}
	if err := build(); err != nil {
		t.Fatal(err)
	}
	dir, err := folder(t.TempDir())
	if err != nil {
		t.Skip(err)
	}
	var out bytes.Buffer
	return &bencher{options: o, dir: dir, out: &out, log: t.Output()}, &out
}

// cells are the table's rows by the start of their first cell.
func cells(t *testing.T, text string) map[string][]string {
	t.Helper()
	rows := map[string][]string{}
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "|---") {
			continue
		}
		c := strings.Split(strings.Trim(line, "| \n"), " | ")
		rows[strings.Fields(c[0])[0]] = c
	}
	return rows
}

func number(t *testing.T, cell string) float64 {
	t.Helper()
	n, err := strconv.ParseFloat(strings.Fields(cell)[0], 64)
	if err != nil {
		t.Errorf("not a number: %q", cell)
	}
	return n
}

func TestTablesAreSane(t *testing.T) {
	b, out := short(t, "-tools", "capagent,tcpdump")
	if err := b.bench(t.Context()); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	rows := cells(t, out.String())
	for _, name := range []string{"capagent", "tcpdump"} {
		r := rows[name]
		if len(r) != 9 {
			t.Fatalf("%s: %q in\n%s", name, r, out)
		}
		if r[1] == "not installed" {
			continue
		}
		offered, captured, lost := number(t, r[1])*1e3*0.3, number(t, r[2]), number(t, r[3])
		if offered < 100 || captured < 100 || captured > 1.5*offered || lost < 0 || lost > 100 {
			t.Errorf("%s: %q", name, r)
		}
		if ns, rss := number(t, r[4]), number(t, r[6]); ns <= 0 || ns > 1e6 || rss < 5 || rss > 500 {
			t.Errorf("%s: %q", name, r)
		}
		if r[7] != "0" || r[8] != "0" {
			t.Errorf("%s doubled or disordered: %q", name, r)
		}
	}
	left, err := os.ReadDir(b.dir)
	if err != nil || len(left) > 1 { // capagent's state
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestOverloadIsCounted(t *testing.T) {
	b, out := short(t, "-tools", "capagent", "-sizes", "none", "-overload", "300ms", "-overload-rate", "100000")
	if err := b.bench(t.Context()); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	r := cells(t, out.String())["capagent"]
	if len(r) != 9 || number(t, r[1]) < 10 || number(t, r[2]) < 5000 || r[7] != "0" || r[8] != "0" {
		t.Errorf("%q in\n%s", r, out)
	}
}

func TestSoakIsSane(t *testing.T) {
	b, out := short(t, "-soak", "-replug", "2", "-cycle", "800ms", "-cycle-rate", "5000", "-soak-for", "1s", "-soak-rate", "5000")
	if err := b.soak(t.Context()); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	rows := cells(t, out.String())
	if r := rows["periods"]; len(r) != 2 || r[1] != "3 of 3" {
		t.Errorf("%q in\n%s", r, out)
	}
	if r := rows["packets"]; len(r) != 2 || r[1] != "0, 0, 0" {
		t.Errorf("%q in\n%s", r, out)
	}
	if r := rows["sent,"]; len(r) != 2 || !regexp.MustCompile(`^(\d{4}), (\d{4})$`).MatchString(r[1]) {
		t.Errorf("%q in\n%s", r, out)
	}
	if r := rows["goroutines:"]; len(r) != 2 || strings.HasPrefix(r[1], "0,") {
		t.Errorf("%q in\n%s", r, out)
	}
}

func TestAgentIsSane(t *testing.T) {
	b, out := short(t, "-agent", "-rotate-rate", "100000", "-for", "1500ms", "-agent-for", "1s", "-agent-rate", "20000")
	if err := b.measureAgent(t.Context()); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Log(out)
	rotated, half, _ := strings.Cut(out.String(), "### Half of the rate")
	r := cells(t, rotated)["capagent"]
	if len(r) != 9 || number(t, r[2]) < 1e5 || number(t, r[4]) <= 0 || r[7] != "0" || r[8] != "0" || !strings.Contains(rotated, "besides, at low priority") {
		t.Errorf("%q in\n%s", r, out)
	}
	if r, other := cells(t, rotated)["dumpcap"], cells(t, half); len(r) != 9 || len(other) != 2 { // all begin with "capagent"
		t.Errorf("%q in\n%s", r, out)
	}
	for line := range strings.Lines(half) {
		c := strings.Split(strings.Trim(line, "| \n"), " | ")
		if !strings.HasPrefix(c[0], "capagent ") {
			continue
		}
		if len(c) != 11 || number(t, c[2]) < 15_000 || number(t, c[5]) <= 0 || number(t, c[8]) < 5 || c[9] != "0" || c[10] != "0" {
			t.Errorf("%q in\n%s", c, out)
		}
	}
	left, err := os.ReadDir(b.dir)
	if err != nil || len(left) > 1 { // the capture command's state
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestToolsThatFailAreNamed(t *testing.T) {
	b, out := short(t, "-tools", "capagent", "-command", "cat /none")
	if err := b.bench(t.Context()); err == nil || !strings.Contains(err.Error(), "No such file") {
		t.Errorf("error %v", err)
	}
	if r := cells(t, out.String())["capagent"]; len(r) != 2 || !strings.HasPrefix(r[1], "failed") {
		t.Errorf("%q in\n%s", r, out)
	}
}

func made(name string, samples ...sample) row {
	return row{tool: tool{name: name, args: func(place) []string { return []string{"true"} }}, samples: samples}
}

func run1(cpu time.Duration, captured, offered uint64) sample {
	return sample{
		sent: traffic.Sent{Packets: offered, Elapsed: time.Second}, offered: offered, cpu: cpu, rss: 128e6,
		files: traffic.Result{Packets: captured, Distinct: captured},
	}
}

func TestTable(t *testing.T) {
	loud := run1(300*time.Microsecond, 1000, 1000)
	loud.noise = 50
	rows := []row{
		made("capagent capture", run1(100*time.Microsecond, 1000, 1000), run1(200*time.Microsecond, 995, 1000), loud),
		made("tcpdump", run1(time.Millisecond, 1000, 1000)),
		made("dumpcap"),
		{tool: tool{name: "netsniff-ng"}, failed: errors.New("it broke")},
	}
	var out bytes.Buffer
	if err := table(&out, "Some", "tcpdump", rows, askedAt(1500)); err != nil {
		t.Fatal(err)
	}
	want := `### Some

| tool | offered kpps | captured | lost % | ns of CPU for a packet | of tcpdump's | RSS MB | doubled | out of order |
|---|---|---|---|---|---|---|---|---|
| capagent capture (noisy: 1 of 3) | 1 | 1000 (995–1000) | 0 (0–0.5) | 201 (100–300) | 0.20 | 128.0 | 0 | 0 |
| tcpdump | 1 | 1000 | 0 | 1000 | 1.00 | 128.0 | 0 | 0 |
| dumpcap | not installed | | | | | | | |
| netsniff-ng | failed, see below | | | | | | | |

netsniff-ng: it broke

- lost %, the worst run, at most 0: 0.5, missed
- RSS MB at most 128: 128, met
- CPU of tcpdump's at most 0.25: 0.201, met

`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", &out, want)
	}
}

func TestMemoryIsRefused(t *testing.T) {
	if _, err := folder("/dev/shm"); err == nil || !strings.Contains(err.Error(), "in memory") {
		t.Errorf("error %v", err)
	}
	if err := room(t.TempDir(), 1e18); err == nil || !strings.Contains(err.Error(), "GB free") {
		t.Errorf("error %v", err)
	}
}

// stenotype's files are blocks as the kernel made them.
func TestBlocksAreChecked(t *testing.T) {
	ne, block := binary.NativeEndian, make([]byte, 1<<20)
	ne.PutUint32(block[12:], 2)
	ne.PutUint32(block[16:], 48)
	for i := range 2 {
		h := block[48+200*i:]
		ne.PutUint32(h, 200)
		ne.PutUint32(h[12:], 60)
		ne.PutUint16(h[24:], 80)
		copy(h[80+42:], "\xca\x9a\x6e\x27capt")
		h[80+57] = byte(7 + i)
	}
	path := filepath.Join(t.TempDir(), "blocks")
	if err := os.WriteFile(path, block, 0o600); err != nil {
		t.Fatal(err)
	}
	var c traffic.Checker
	if err := checkBlocks(&c, path); err != nil {
		t.Fatal(err)
	}
	if got, want := c.Result(), (traffic.Result{Packets: 2, Distinct: 2, First: 7, Last: 8, Bytes: 120}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	ne.PutUint32(block[12:], 1<<31)
	if err := os.WriteFile(path, block, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := checkBlocks(&c, path); err == nil {
		t.Error("a block of 2 billion packets was fine")
	}
}

// The follower sees every packet of a file that grows, and leaves no blocks.
func TestFollowerKeepsUp(t *testing.T) {
	dir, ended := t.TempDir(), make(chan struct{})
	packets := 0
	f := &follower{dir: dir, cpu: -1, ended: ended, packet: func(int64, []byte) { packets++ }}
	done := make(chan error, 1)
	go func() { done <- f.run(t.Context()) }()
	path := filepath.Join(dir, "x.pcap")
	w, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	head := make([]byte, 24)
	for i, v := range []uint32{0xa1b2c3d4, 4<<16 | 2, 0, 0, 262144, 1} {
		binary.LittleEndian.PutUint32(head[4*i:], v)
	}
	record := make([]byte, 16+64<<10)
	binary.LittleEndian.PutUint32(record[8:], 64<<10)
	binary.LittleEndian.PutUint32(record[12:], 64<<10)
	const total = 3 * punchEvery / (64 << 10)
	if _, err := w.Write(head); err != nil {
		t.Fatal(err)
	}
	for range total {
		if _, err := w.Write(record); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	close(ended)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if packets != total {
		t.Errorf("%d packets, want %d", packets, total)
	}
	used, err := exec.Command("du", "-k", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	if kib, _ := strconv.Atoi(strings.Fields(string(used))[0]); kib > 80<<10 {
		t.Errorf("%d KiB are still in use", kib)
	}
}

func TestFollowerEnds(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	f := &follower{dir: t.TempDir(), cpu: -1, ended: make(chan struct{})}
	if err := f.run(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	ended := make(chan struct{})
	close(ended)
	f = &follower{dir: t.TempDir(), cpu: -1, ended: ended}
	if err := f.run(t.Context()); err == nil || errors.Is(err, pcapio.ErrTruncated) {
		t.Error(err)
	}
}
