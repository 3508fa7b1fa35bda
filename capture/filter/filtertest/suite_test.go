package filtertest

import (
	"context"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/bpf"

	"capagent/capture/filter"
)

var flagSuite = flag.String("filter.suite", "", "folder of libpcap's sources, for its own tests of filters")

// suiteInside is set in the process that sees the suite's names in /etc.
const suiteInside = "FILTERTEST_SUITE_INSIDE"

// TestSuite runs libpcap's own tests of filters on the link types that we have:
// of what it accepts, our program has to decide as the one that the test expects;
// of what it applies to a file, we have to have the expected results; what it
// rejects, we have to refuse. As root it runs itself where /etc has the names of
// hosts and networks that the tests need.
func TestSuite(t *testing.T) {
	if *flagSuite == "" {
		t.Skip("needs -filter.suite, a folder with libpcap's sources")
	}
	if os.Geteuid() == 0 && os.Getenv(suiteInside) == "" {
		runInside(t)
		return
	}
	tests, err := Suite(context.Background(), *flagSuite, t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	best := map[string]string{}
	for _, test := range tests {
		if strings.Contains(test.Label, "_opt_") {
			best[test.Label] = test.Expected
		}
	}
	s := suiteRun{
		t: t, oracle: oracle(t), best: best,
		right: map[string]int{}, all: map[string]int{}, known: map[string]int{}, skipped: map[string]int{},
	}
	for _, test := range tests {
		// What an expression means doesn't hang on the optimiser, except that it
		// leaves out loads that would refuse a short packet.
		if e := best[strings.Replace(test.Label, "_unopt_", "_opt_", 1)]; e != "" {
			test.Expected = e
		}
		s.run(test)
	}
	s.print()
}

// runInside runs TestSuite in a mount namespace whose /etc has the suite's names.
func runInside(t *testing.T) {
	etc := t.TempDir()
	for _, name := range []string{"hosts", "ethers", "networks"} {
		b, err := os.ReadFile(filepath.Join("/etc", name))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(etc, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Suite(context.Background(), *flagSuite, t.TempDir(), etc); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(etc, 0o755); err != nil {
		t.Fatal(err)
	}
	script := `mount -t overlay overlay -o "lowerdir=$1:/etc" /etc && shift && exec "$@"`
	args := append([]string{"-m", "sh", "-c", script, "sh", etc}, os.Args[0], "-test.run=^TestSuite$", "-test.v",
		"-filter.suite="+*flagSuite, "-filter.libpcap="+*flagLibrary)
	cmd := exec.Command("unshare", args...)
	cmd.Env = append(os.Environ(), suiteInside+"=1")
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Error(err)
	}
}

type suiteRun struct {
	oracle         *Oracle
	t              *testing.T
	right, all     map[string]int    // by kind and link type
	known, skipped map[string]int    // by reason
	best           map[string]string // what is expected with the optimiser, by label
	bad            []string
}

func (s *suiteRun) run(test SuiteTest) {
	link, ours := LinkByName(test.DLT)
	var frames []Frame
	if test.Kind == "apply" {
		var err error
		if link, frames, err = ReadFrames(filepath.Join(*flagSuite, "tests", test.SaveFile)); err != nil {
			s.t.Error(test.SaveFile, err)
			return
		}
		_, ours = linkNames[link]
	}
	switch {
	case test.Kind == "skip":
		s.skipped["skipped by the suite itself: "+test.Skip]++
		return
	case test.Kind == "other" || test.Kind == "reject" && test.Expr == "":
		s.skipped["not of a filter"]++
		return
	case !ours:
		s.skipped["other link types"]++
		return
	case test.Expr == "_enumerate_bpf_image":
		s.skipped["not of a filter"]++
		return
	}
	c := Case{Expr: test.Expr, LinkType: link, SnapLen: uint32(test.SnapLen)}
	if a, err := netip.ParseAddr(test.Netmask); err == nil {
		b := a.As4()
		c.HasMask, c.Netmask = true, uint32(b[0])<<24|uint32(b[1])<<16|uint32(b[2])<<8|uint32(b[3])
	}
	if c.Netmask == 0xffffffff { // PCAP_NETMASK_UNKNOWN
		c.HasMask, c.Netmask = false, 0
	}
	if test.LinuxExt == 1 {
		c.Target = filter.Live
	}
	key := fmt.Sprintf("%-6s %s", test.Kind, LinkName(link))
	s.all[key]++
	wrong := s.judge(test, c, frames)
	if wrong != "" {
		if reason := s.explained(test, c, link); reason != "" {
			s.known[reason]++
			s.right[key]++
			return
		}
	}
	if wrong != "" {
		s.bad = append(s.bad, fmt.Sprintf("%s %s: %v: %s", test.Kind, test.Label, c, wrong))
		return
	}
	s.right[key]++
}

// explained is why a test is right though ours does otherwise, or "".
func (s *suiteRun) explained(test SuiteTest, c Case, link int) string {
	_, optimised := s.best[strings.Replace(test.Label, "_unopt_", "_opt_", 1)]
	switch {
	case test.Kind != "accept":
		return ""
	case !optimised && s.takesNothing(test, c):
		return "libpcap's optimiser, which this test leaves out, refuses the expression as ours does: nothing passes"
	case test.Offline == "" && (link == LinkNull || link == LinkLoop) && strings.HasPrefix(test.Expr, "link proto"):
		return "for live capture on a system that has NULL or LOOP; ours is for files"
	}
	return ""
}

// takesNothing says whether ours refuses what the expected program never takes.
func (s *suiteRun) takesNothing(test SuiteTest, c Case) bool {
	_, err := guarded(Ours, c)
	theirs, parseErr := ParseImage(test.Expected)
	if err == nil || parseErr != nil {
		return false
	}
	_, taken, _ := (&Pair{Case: c, Theirs: theirs, Ours: Compiled{Raw: theirs}}).Hunt(seeded(1, 2), 400)
	return taken == 0
}

// judge returns what is wrong with ours, or "".
func (s *suiteRun) judge(test SuiteTest, c Case, frames []Frame) string {
	compiled, err := guarded(Ours, c)
	if test.Kind == "reject" {
		if err == nil {
			return fmt.Sprintf("compiles; libpcap says %q", test.Expected)
		}
		return ""
	}
	if err != nil {
		return err.Error()
	}
	if test.Kind == "apply" {
		want := strings.Fields(test.Expected)
		if len(want) != len(frames) {
			return fmt.Sprintf("%d packets, %d results", len(frames), len(want))
		}
		for i, f := range frames {
			got := compiled.Match(f.Data, f.Length)
			raw, err := Run(compiled.Raw, f)
			if err != nil || got != (want[i] != "0") || (raw != 0) != got {
				return fmt.Sprintf("packet %d: want %s, got %v, %d, %v", i+1, want[i], got, raw, err)
			}
		}
		return ""
	}
	theirs, err := ParseImage(test.Expected)
	if err != nil {
		s.t.Fatal(test.Label, err)
	}
	p := &Pair{Case: c, Theirs: theirs, Ours: compiled, Torn: map[string]int{}}
	if _, _, bad := p.Hunt(seeded(1, 2), 200); bad == nil {
		return ""
	} else if !s.oracle.old() || test.LinuxExt == 1 {
		return bad.String()
	}
	// The suite is of 1.11 and the system's libpcap of 1.10.
	const reason = "some packets as libpcap 1.10 decides, which is the system's, not as 1.11"
	p.Others = []Other{{reason, sync.OnceValue(func() []bpf.RawInstruction {
		prog, _ := s.oracle.Compile(c.query())
		return prog
	})}}
	_, _, bad := p.Hunt(seeded(1, 2), 200)
	if bad != nil {
		return bad.String()
	}
	s.known[reason]++
	return ""
}

func (s *suiteRun) print() {
	var keys []string
	for k := range s.all {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	text := ""
	sum := map[string][2]int{}
	for _, k := range keys {
		text += fmt.Sprintf("\n  %-26s %5d of %5d right", k, s.right[k], s.all[k])
		kind := strings.Fields(k)[0]
		sum[kind] = [2]int{sum[kind][0] + s.right[k], sum[kind][1] + s.all[k]}
	}
	for _, kind := range []string{"accept", "apply", "reject"} {
		text += fmt.Sprintf("\n  %-26s %5d of %5d right", kind+", all", sum[kind][0], sum[kind][1])
	}
	for k, n := range s.known {
		text += fmt.Sprintf("\n  of them explained: %d %s", n, k)
	}
	keys = keys[:0]
	for k, n := range s.skipped {
		keys = append(keys, fmt.Sprintf("\n  %6d %s", n, k))
	}
	sort.Strings(keys)
	s.t.Logf("%s%s", text, strings.Join(keys, ""))
	for i, b := range s.bad {
		if i == 400 {
			s.t.Errorf("and %d more", len(s.bad)-i)
			break
		}
		s.t.Error(b)
	}
}

// TestImagesAreRead sees that the suite's notation of programs is understood: the
// optimised and the other program of each of its tests have to decide the same.
func TestImagesAreRead(t *testing.T) {
	if *flagSuite == "" {
		t.Skip("needs -filter.suite")
	}
	tests, err := Suite(context.Background(), *flagSuite, t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	plain := map[string]SuiteTest{}
	pairs := 0
	for _, test := range tests {
		if _, ours := LinkByName(test.DLT); test.Kind != "accept" || !ours {
			continue
		}
		if strings.Contains(test.Label, "_unopt_") {
			plain[test.Label] = test
			continue
		}
		other, found := plain[strings.Replace(test.Label, "_opt_", "_unopt_", 1)]
		if !found || other.Expected == test.Expected {
			continue
		}
		if strings.Contains(test.Expr, "& 0x00000000") {
			continue // the optimiser leaves the load out, and with it the refusal of short packets
		}
		a, err := ParseImage(test.Expected)
		if err != nil {
			t.Fatal(err)
		}
		b, err := ParseImage(other.Expected)
		if err != nil {
			t.Fatal(err)
		}
		link, _ := LinkByName(test.DLT)
		c := Case{Expr: test.Expr, LinkType: link}
		if test.LinuxExt == 1 {
			c.Target = filter.Live
		}
		pairs++
		if _, _, bad := (&Pair{Case: c, Theirs: a, Ours: Compiled{Raw: b}}).Hunt(seeded(1, 2), 200); bad != nil {
			t.Errorf("%s: %v", test.Label, bad)
		}
	}
	t.Logf("%d pairs", pairs)
}
