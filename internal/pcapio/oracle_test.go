package pcapio_test

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// tool returns the path of a program that is the test's oracle.
func tool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is needed: %v", name, err)
	}
	t.Skipf("%s is needed: %v", name, err)
	return ""
}

// verdict is what capinfos says of a file.
type verdict struct {
	packets     string
	first, last string
	clean       bool
	complaint   string
}

var (
	failedAfter = regexp.MustCompile(`after reading (\d+) packets from "([^"]+)"`)
	failedOpen  = regexp.MustCompile(`^capinfos: The file "([^"]+)" (.*)`)
)

// capinfos asks about many files at once.
func capinfos(t testing.TB, paths []string) map[string]verdict {
	t.Helper()
	cmd := exec.Command(tool(t, "capinfos"), append([]string{"-T", "-M", "-r", "-c", "-a", "-e", "-S"}, paths...)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC")
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	_ = cmd.Run() // fails when one file does
	all := map[string]verdict{}
	for line := range strings.Lines(out.String()) {
		if f := strings.Split(strings.TrimSuffix(line, "\n"), "\t"); len(f) == 4 {
			all[f[0]] = verdict{packets: f[1], first: f[2], last: f[3], clean: true}
		}
	}
	for line := range strings.Lines(complaints.String()) {
		if m := failedAfter.FindStringSubmatch(line); m != nil {
			v := all[m[2]]
			v.packets, v.clean = m[1], false
			all[m[2]] = v
		}
		if m := failedOpen.FindStringSubmatch(line); m != nil {
			v := all[m[1]]
			v.complaint, v.clean = m[2], false
			if v.packets == "" {
				v.packets = "0"
			}
			all[m[1]] = v
		}
	}
	return all
}

// seconds prints nanoseconds with as many decimals as like has.
func seconds(ns int64, like string) string {
	sec, frac := ns/1e9, ns%1e9
	sign := ""
	if ns < 0 {
		sign, sec, frac = "-", -sec, -frac
	}
	s := fmt.Sprintf("%s%d.%09d", sign, sec, frac)
	_, decimals, _ := strings.Cut(like, ".")
	if decimals == "" {
		return s[:len(s)-10]
	}
	return s[:len(s)-9+len(decimals)]
}

func corpusPath(c corpusFile) string {
	return filepath.Join("testdata", "corpus", filepath.FromSlash(c.name))
}

func TestCapinfosCountsAndDatesTheCorpusAsWeDo(t *testing.T) {
	var paths []string
	for _, c := range corpus() {
		if !strings.Contains(c.name, "bomb") {
			paths = append(paths, corpusPath(c))
		}
	}
	theirs := capinfos(t, paths)
	for _, c := range corpus() {
		v, ok := theirs[corpusPath(c)]
		if !ok {
			if !strings.Contains(c.name, "bomb") {
				t.Errorf("%s: capinfos said nothing", c.name)
			}
			continue
		}
		first, last, timed := int64(math.MaxInt64), int64(math.MinInt64), true
		packets, end := readAll(c.data)
		for _, p := range packets {
			timed = timed && !p.NoTime
			first, last = min(first, p.Time), max(last, p.Time)
		}
		want := verdict{packets: strconv.Itoa(len(packets)), first: "n/a", last: "n/a", clean: c.end == ""}
		if v.first == "" { // no row is printed for a file that could not be read through
			want.first, want.last = "", ""
		} else if timed && len(packets) > 0 {
			want.first, want.last = seconds(first, v.first), seconds(last, v.last)
		}
		// An empty stream counts as a capture without packets there.
		if c.end == foreign && v.packets == "0" {
			want.clean = v.clean
		}
		// With a block that has no time among them, no time is printed there.
		if strings.Contains(c.name, "every-block") {
			want.first, want.last = "n/a", "n/a"
		}
		want.complaint = v.complaint
		if same := v == want; same == (c.differs != "") {
			t.Errorf("%s: capinfos sees %+v, we see %+v (%v); expected to differ: %q", c.name, v, want, end, c.differs)
		}
	}
}

// tsharkDiffers says where only tshark's fields differ, and why.
var tsharkDiffers = map[string]string{
	"good/pcapng-little-every-block.pcapng":          "lists custom blocks as frames",
	"hostile/pcap-origlen-4g.pcap":                   "prints lengths of 31 bits",
	"hostile/pcapng-packet-claims-4g-origlen.pcapng": "prints lengths of 31 bits",
}

func TestTsharkSeesThePacketsThatWeSee(t *testing.T) {
	tshark := tool(t, "tshark")
	for _, c := range corpus() {
		// Each run takes long to start, and capinfos has seen the first and the
		// last packet of every file.
		several := c.packets > 1 && strings.HasPrefix(c.name, "good/pcap") && !strings.Contains(c.name, "-big-")
		if c.differs != "" || !several && !strings.Contains(c.name, "len-") {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(tshark, "-n", "-r", corpusPath(c), "-T", "fields",
				"-e", "frame.time_epoch", "-e", "frame.cap_len", "-e", "frame.len")
			cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC")
			out, _ := cmd.Output() // fails where the file is damaged
			var want strings.Builder
			packets, _ := readAll(c.data)
			for _, p := range packets {
				stamp := seconds(p.Time, ".000000000")
				if p.NoTime {
					stamp = ""
				}
				fmt.Fprintf(&want, "%s\t%d\t%d\n", stamp, p.CapLen, p.OrigLen)
			}
			if same := string(out) == want.String(); same == (tsharkDiffers[c.name] != "") {
				t.Errorf("tshark sees\n%swe see\n%sexpected to differ: %q", out, want.String(), tsharkDiffers[c.name])
			}
		})
	}
}
