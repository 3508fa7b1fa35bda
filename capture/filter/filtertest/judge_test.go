package filtertest

import (
	"errors"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/bpf"
)

// libpcapAgain is a compiler that is right by definition: libpcap, with or
// without its optimiser.
func libpcapAgain(o *Oracle, plain bool, change func(Case, []bpf.RawInstruction)) Compiler {
	return func(c Case) (Compiled, error) {
		q := c.query()
		q.Plain = plain
		prog, err := o.Compile(q)
		if err == nil && change != nil {
			change(c, prog)
		}
		return Compiled{Raw: prog}, err
	}
}

// TestJudgeTakesLibpcapForRight sees that the generators and the interpreter find
// nothing in libpcap's own programs, and that they are of use: most expressions
// compile, and packets are taken and refused.
func TestJudgeTakesLibpcapForRight(t *testing.T) {
	j := &Judge{Oracle: oracle(t), Compile: libpcapAgain(oracle(t), false, nil)}
	// Not the cooked link types: a socket's program for them isn't libpcap's as it is.
	links := []int{LinkEthernet, LinkRaw, LinkNull, LinkLoop, Link80211, LinkRadiotap}
	c := &Campaign{Judge: j, Seed: 1, Packets: 20, Links: links}
	var total Tally
	for i := range 600 {
		if err := c.Run(i, &total); err != nil {
			t.Log(err)
		}
	}
	t.Logf("%v", &total)
	show(t, total.Bad)
	if total.Compiled*10 < total.Filters*6 {
		t.Errorf("%d of %d expressions compile", total.Compiled, total.Filters)
	}
	if total.Taken*100 < total.Trials*15 || total.Taken*100 > total.Trials*75 {
		t.Errorf("%d of %d packets are taken", total.Taken, total.Trials)
	}
}

// TestMutantsAreCaught breaks libpcap's programs in one place each and sees that
// the judge notices.
func TestMutantsAreCaught(t *testing.T) {
	mutations := map[string]func(*rand.Rand, []bpf.RawInstruction) bool{
		"jump flipped":     func(r *rand.Rand, p []bpf.RawInstruction) bool { return mutate(r, p, isJump, flip) },
		"constant changed": func(r *rand.Rand, p []bpf.RawInstruction) bool { return mutate(r, p, isJump, change) },
		"offset changed":   func(r *rand.Rand, p []bpf.RawInstruction) bool { return mutate(r, p, isLoad, change) },
	}
	for name, m := range mutations {
		t.Run(name, func(t *testing.T) {
			r, mutated := seeded(3, 3), false
			j := &Judge{Oracle: oracle(t), Compile: libpcapAgain(oracle(t), false, func(_ Case, p []bpf.RawInstruction) {
				mutated = m(r, p)
			})}
			caught, made := 0, 0
			for i, expr := range manPage(t) {
				mutated = false
				pair, bad, err := j.Pair(Case{Expr: expr, LinkType: LinkEthernet})
				if errors.Is(err, errBoth) || !mutated {
					continue
				}
				if err != nil || bad != nil {
					t.Fatal(expr, err, bad)
				}
				made++
				if _, _, bad = pair.Hunt(seeded(uint64(i), 1), 800); bad != nil {
					caught++
				} else {
					t.Logf("not caught: %s", expr)
				}
			}
			t.Logf("%d of %d caught", caught, made)
			if made < 100 || caught*100 < made*94 {
				t.Errorf("%d of %d caught", caught, made)
			}
		})
	}
}

func isJump(i bpf.RawInstruction) bool { return i.Op&classMask == classJMP && i.Op != classJMP }

func isLoad(i bpf.RawInstruction) bool {
	return i.Op&classMask == classLD && (i.Op&modeMask == modeABS || i.Op&modeMask == modeIND)
}

func flip(i *bpf.RawInstruction)   { i.Jt, i.Jf = i.Jf, i.Jt }
func change(i *bpf.RawInstruction) { i.K++ }

// mutate changes one of the instructions that which picks.
func mutate(r *rand.Rand, p []bpf.RawInstruction, which func(bpf.RawInstruction) bool, how func(*bpf.RawInstruction)) bool {
	var at []int
	for i := range p {
		if which(p[i]) {
			at = append(at, i)
		}
	}
	if len(at) == 0 {
		return false
	}
	how(&p[at[r.IntN(len(at))]])
	return true
}

// TestShrinkFindsTheCore gives the shrinker a long expression of which one part
// is compiled wrongly.
func TestShrinkFindsTheCore(t *testing.T) {
	o := oracle(t)
	wrong := func(c Case) (Compiled, error) {
		q := c.query()
		q.Expr = strings.ReplaceAll(q.Expr, "udp", "tcp")
		prog, err := o.Compile(q)
		return Compiled{Raw: prog}, err
	}
	j := &Judge{Oracle: oracle(t), Compile: wrong}
	c := Case{Expr: "not (host 10.1.1.1 or ip6) and (udp port 53 or vlan 3) and ip[8] > 3", LinkType: LinkEthernet}
	var tally Tally
	if err := j.One(c, 1, 2000, &tally); err != nil {
		t.Fatal(err)
	}
	if len(tally.Bad) != 1 {
		t.Fatalf("%v", &tally)
	}
	if d := tally.Bad[0]; d.Expr != "udp" || len(d.Frame.Data) > 24 {
		t.Errorf("shrunk to %v", d)
	}
	back, frame, err := ParseLine(Line(tally.Bad[0]))
	if err != nil || back != tally.Bad[0].Case || frame.String() != tally.Bad[0].Frame.String() {
		t.Errorf("%v comes back as %v %v, %v", tally.Bad[0], back, frame, err)
	}
}

// TestHelperIsTcpdump sees that the helper's programs are those that tcpdump
// prints.
func TestHelperIsTcpdump(t *testing.T) {
	if _, err := exec.LookPath("tcpdump"); err != nil {
		t.Skip("no tcpdump")
	}
	if *flagLibrary != "" {
		t.Skip("tcpdump has the system's libpcap")
	}
	o := oracle(t)
	for _, link := range []int{LinkEthernet, LinkSLL2, LinkRaw, Link80211} {
		for i, expr := range manPage(t) {
			if i%6 != 0 {
				continue // 5 ms each
			}
			want, wantErr := Tcpdump(t.Context(), link, expr)
			got, err := o.Compile(Query{Expr: expr, LinkType: link, Mode: Dead})
			if (err == nil) != (wantErr == nil) || !slices.Equal(got, want) {
				t.Errorf("%s %q: %v, %v; tcpdump %v, %v", LinkName(link), expr, got, err, want, wantErr)
			}
		}
	}
}
