package filtertest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/net/bpf"

	"capagent/capture/filter"
)

// Case is an expression and what it is compiled for.
type Case struct {
	Expr     string
	LinkType int
	Target   filter.Target
	Mode     Mode // the handle that libpcap compiles it for; 0: the one that fits Target
	SnapLen  uint32
	Netmask  uint32
	HasMask  bool
}

func (c Case) String() string {
	s := LinkName(c.LinkType)
	switch c.Target {
	case filter.Live:
		s += " live"
	case filter.LiveCooked:
		s += " cooked"
	}
	if c.Mode != 0 {
		s += " mode=" + string(c.Mode)
	}
	if c.HasMask {
		s += fmt.Sprintf(" mask=%#08x", c.Netmask)
	}
	return fmt.Sprintf("%s %q", s, c.Expr)
}

func (c Case) query() Query {
	mode := c.Mode
	if mode == 0 {
		mode = File
		if c.Target != filter.File {
			mode = Live
		}
	}
	return Query{Expr: c.Expr, LinkType: c.LinkType, Mode: mode, SnapLen: c.SnapLen, Netmask: c.Netmask, HasMask: c.HasMask}
}

// Compiled is what a compiler made of an expression.
type Compiled struct {
	Raw   []bpf.RawInstruction
	Match func(data []byte, length uint32) bool // nil: there is none
}

// Compiler is what is judged.
type Compiler func(Case) (Compiled, error)

// compileTime is how long our compiler may take. It is generous: the machine may
// be busy.
const compileTime = 10 * time.Second

// Ours is package filter.
func Ours(c Case) (Compiled, error) {
	ctx, cancel := context.WithTimeout(context.Background(), compileTime)
	defer cancel()
	p, err := filter.Compile(ctx, c.Expr, filter.Options{
		LinkType: c.LinkType, Target: c.Target, SnapLen: c.SnapLen, Netmask: c.Netmask, HasMask: c.HasMask,
	})
	var at *filter.Error
	switch {
	case errors.As(err, &at) && (at.Pos < 0 || at.Pos > len(c.Expr) || at.Expr != c.Expr || at.Text == ""):
		return Compiled{}, fmt.Errorf("%w: error at %d of %q: %q", errCrash, at.Pos, at.Expr, at.Text)
	case err != nil && at == nil:
		return Compiled{}, fmt.Errorf("%w: an error without a position: %w", errCrash, err)
	case err != nil:
		return Compiled{}, err
	}
	out := Compiled{Raw: p.Raw()}
	if c.Target == filter.File {
		out.Match = p.Match
	}
	return out, nil
}

// errCrash is the cause where a compiler panicked or didn't come back.
var errCrash = errors.New("crash")

// guarded runs a compiler so that it can panic and hang.
func guarded(compile Compiler, c Case) (Compiled, error) {
	type answer struct {
		Compiled
		err error
	}
	done := make(chan answer, 1)
	go func() {
		var a answer
		defer func() {
			if r := recover(); r != nil {
				a.err = fmt.Errorf("%w: %v", errCrash, r)
			}
			done <- a
		}()
		a.Compiled, a.err = compile(c)
	}()
	timer := time.NewTimer(2 * compileTime)
	defer timer.Stop()
	select {
	case a := <-done:
		return a.Compiled, a.err
	case <-timer.C:
		return Compiled{}, fmt.Errorf("%w: still compiling after %v", errCrash, 2*compileTime)
	}
}

// Kind is how two compilers disagree.
type Kind string

// The kinds.
const (
	Accepts Kind = "accepts" // what libpcap refuses
	Refuses Kind = "refuses" // what libpcap compiles
	Decides Kind = "decides" // otherwise about a packet
	Differs Kind = "differs" // Match from Raw
	Breaks  Kind = "breaks"  // panics, hangs, or makes an invalid program
)

// Disagreement is a case in which the compiler is not as libpcap.
type Disagreement struct {
	Case
	Kind   Kind
	Frame  Frame // for Decides and Differs
	Want   uint32
	Got    uint32
	Detail string
	Theirs []bpf.RawInstruction // libpcap's program, where ours refuses or breaks
}

func (d Disagreement) String() string {
	s := fmt.Sprintf("%s: %v", d.Kind, d.Case)
	if d.Kind == Decides || d.Kind == Differs {
		s += fmt.Sprintf(" | %v | want %d got %d", d.Frame, d.Want, d.Got)
	}
	if d.Detail != "" {
		s += " | " + d.Detail
	}
	return s
}

// Judge compares a compiler with libpcap.
type Judge struct {
	Oracle  *Oracle
	Compile Compiler
	// Kernel tries whether the kernel takes a program for a live socket; nil:
	// nobody asks it.
	Kernel func([]bpf.RawInstruction) error
	// Real are packets of capture files by link type.
	Real map[int][]Frame
	// Strict counts as a disagreement what libpcap decides otherwise with its
	// optimiser than without, where the compiler agrees with the latter.
	Strict bool
}

// Other is a program that libpcap has beside its usual one.
type Other struct {
	Reason string
	Prog   func() []bpf.RawInstruction
}

// Pair are the two programs for a case.
type Pair struct {
	Case
	Theirs []bpf.RawInstruction
	Ours   Compiled
	// Real are packets of capture files, tried and changed beside those made.
	Real []Frame
	// Others are libpcap's other answers to the same question, with the reason why
	// ours may be one of them. They are asked for when they are needed.
	Others []Other
	// Torn counts the packets on which ours gave one of the other answers.
	Torn map[string]int
	// Endless counts the packets on which libpcap's program doesn't end.
	Endless int
	// Jumps are the ways that libpcap's program's jumps can go, Gone those that
	// they went.
	Jumps, Gone int
}

// errBoth says that both refuse.
var errBoth = errors.New("refused by both")

// Pair has both compile c. It returns errBoth where both refuse, a disagreement
// where one does, or another error where libpcap itself failed.
func (j *Judge) Pair(c Case) (*Pair, *Disagreement, error) {
	theirs, err := j.Oracle.Compile(c.query())
	var refused *Refused
	if err != nil && !errors.As(err, &refused) {
		return nil, nil, err
	}
	ours, oursErr := guarded(j.Compile, c)
	switch {
	case errors.Is(oursErr, errCrash):
		return nil, &Disagreement{Case: c, Kind: Breaks, Detail: oursErr.Error(), Theirs: theirs}, nil
	case refused != nil && oursErr != nil:
		return nil, nil, errBoth
	case refused != nil:
		return nil, &Disagreement{Case: c, Kind: Accepts, Detail: refused.Error()}, nil
	case oursErr != nil:
		return nil, &Disagreement{Case: c, Kind: Refuses, Detail: oursErr.Error(), Theirs: theirs}, nil
	}
	if c.Target != filter.File && j.Kernel != nil {
		if err := j.Kernel(ours.Raw); err != nil {
			return nil, &Disagreement{Case: c, Kind: Breaks, Detail: "the kernel: " + err.Error(), Theirs: theirs}, nil
		}
	}
	p := &Pair{Case: c, Theirs: theirs, Ours: ours, Real: j.Real[c.LinkType], Torn: map[string]int{}}
	if !j.Strict {
		p.Others = j.others(c)
	}
	return p, nil, nil
}

// others are libpcap's other programs for c.
func (j *Judge) others(c Case) []Other {
	ask := func(mode Mode, plain bool) func() []bpf.RawInstruction {
		return sync.OnceValue(func() []bpf.RawInstruction {
			q := c.query()
			q.Plain = plain
			if mode != 0 {
				q.Mode = mode
			}
			prog, _ := j.Oracle.Compile(q)
			return prog
		})
	}
	all := []Other{{"libpcap decides otherwise with its optimiser than without", ask(0, true)}}
	if c.LinkType == LinkNull && c.Target == filter.File {
		const reason = "a NULL packet of the other byte order, which libpcap 1.11 takes in every file"
		all = append(all, Other{reason, ask(Swapped, false)}, Other{reason, ask(Swapped, true)})
	}
	return all
}

// Try runs both programs on f and returns whether libpcap's takes it.
func (p *Pair) Try(f Frame) (bool, *Disagreement) { return p.try(f, &seed{}) }

// try notes the ways that the programs went in s.
func (p *Pair) try(f Frame, s *seed) (bool, *Disagreement) {
	bad := func(k Kind, want, got uint32, detail string) *Disagreement {
		f.Data = append([]byte(nil), f.Data...)
		return &Disagreement{Case: p.Case, Kind: k, Frame: f, Want: want, Got: got, Detail: detail}
	}
	want, theirs, err := runTrail(p.Theirs, f)
	if err != nil {
		p.Endless++
		if p.Ours.Match != nil && !ends(func() { p.Ours.Match(f.Data, f.Length) }) {
			return false, bad(Breaks, 0, 0, "Match doesn't end; nor does libpcap's program")
		}
		return false, nil
	}
	shown := f
	if p.Target == filter.LiveCooked {
		n := cookedHeader(p.LinkType)
		shown.Data, shown.Length = f.Data[n:], f.Length-uint32(n)
	}
	got, ours, err := runTrail(p.Ours.Raw, shown)
	s.theirs, s.ours = theirs, ours
	switch {
	case err != nil:
		return want != 0, bad(Breaks, want, 0, err.Error())
	case got != want && p.torn(f, got):
		return want != 0, nil
	case got != want:
		return want != 0, bad(Decides, want, got, "")
	case p.Ours.Match != nil && p.Ours.Match(f.Data, f.Length) != (want != 0):
		return want != 0, bad(Differs, want, 0, "Match")
	}
	return want != 0, nil
}

// ends says whether f comes back soon.
func ends(f func()) bool {
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	timer := time.NewTimer(compileTime)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}

// torn says whether another of libpcap's programs decides as got says, and counts
// it.
func (p *Pair) torn(f Frame, got uint32) bool {
	for _, o := range p.Others {
		prog := o.Prog()
		if prog == nil {
			continue
		}
		if ret, err := Run(prog, f); err == nil && ret == got {
			p.Torn[o.Reason]++
			return true
		}
	}
	return false
}
