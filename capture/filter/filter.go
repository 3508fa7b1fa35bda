// Package filter compiles pcap-filter(7) expressions to BPF programs.
//
// An expression goes through these steps: scanner and parser make a tree of it
// (lex.go, parse.go), the generator a graph of blocks of instructions (gen.go),
// the optimiser a smaller graph (opt.go), and the emitter puts the blocks into a
// line with jumps (emit.go). The VM runs programs on packets in files (vm.go); on
// sockets the kernel does.
package filter

import (
	"context"
	"fmt"

	"golang.org/x/net/bpf"
)

// Target is where a program will run; the same expression needs other loads.
type Target int

// The targets.
const (
	// File: on packets as capture files hold them, every VLAN tag in its place.
	File Target = iota
	// Live: on a Linux raw packet socket, where the kernel has taken the outer
	// VLAN tag out of the packet (SKF_AD_VLAN_TAG).
	Live
	// LiveCooked: on a Linux cooked packet socket (SOCK_DGRAM, "any"), which
	// shows packets from the network layer on; Options.LinkType is LINUX_SLL or
	// LINUX_SLL2, and its header's fields are loaded from the socket buffer.
	LiveCooked
)

// Options say what a program is for.
type Options struct {
	LinkType int    // LINKTYPE_ number
	Target   Target // where it runs
	SnapLen  uint32 // what it returns for a packet that passes; 0: 262144
	Netmask  uint32 // of the interface, big-endian as in 0xffffff00, for "ip broadcast"; 0: not known
	HasMask  bool   // Netmask is known
}

// Limits of what is compiled.
const (
	maxExpression = 64 << 10
	maxKernel     = 4096 // instructions that a kernel takes
	defaultSnap   = 262144
)

// Compile compiles expr; the empty expression passes everything. An expression
// that can't be compiled, or only to a program that would decide otherwise than
// it says, is an *Error, and so is one that no packet can pass. ctx bounds the
// look-up of host names.
func Compile(ctx context.Context, expr string, o Options) (*Program, error) {
	if o.SnapLen == 0 {
		o.SnapLen = defaultSnap
	}
	fail := func(pos int, format string, args ...any) (*Program, error) {
		return nil, &Error{Expr: expr, Pos: pos, Text: fmt.Sprintf(format, args...)}
	}
	if len(expr) > maxExpression {
		return fail(maxExpression, "expression is longer than %d bytes", maxExpression)
	}
	g := &gen{Options: o, expr: expr}
	if !g.start(o.LinkType) {
		return fail(0, "filters on link type %d are not supported", o.LinkType)
	}
	if o.Target == LiveCooked && o.LinkType != linkSLL && o.LinkType != linkSLL2 {
		return fail(0, "a cooked socket has link type LINUX_SLL or LINUX_SLL2, not %d", o.LinkType)
	}
	tree, err := parse(expr)
	if err != nil {
		return nil, err
	}
	root, err := g.build(ctx, tree)
	if err != nil {
		return nil, err
	}
	if !g.hasLocalJumps {
		if root, err = optimize(root); err != nil {
			return nil, withExpr(err, expr)
		}
		if root.test.code == opRet && root.test.k == 0 {
			return fail(0, "no packet can pass this expression")
		}
	}
	if o.Target != File {
		if err := adapt(root, o); err != nil {
			return nil, withExpr(err, expr)
		}
	}
	p := &Program{raw: emit(root)}
	if o.Target != File {
		if p.raw = initialize(p.raw); len(p.raw) > maxKernel {
			return fail(0, "the program has %d instructions, the kernel takes %d", len(p.raw), maxKernel)
		}
	}
	return p, nil
}

// withExpr completes an error that only knows where.
func withExpr(err error, expr string) error {
	if e, ok := err.(*Error); ok { //nolint:errorlint // made by this package, never wrapped
		e.Expr = expr
	}
	return err
}

// Program is a compiled filter. It may be used by many goroutines at a time.
type Program struct{ raw []bpf.RawInstruction }

// Raw is the program for the kernel. It must not be changed.
func (p *Program) Raw() []bpf.RawInstruction { return p.raw }

// Match says whether a packet of which data was captured passes; length is its
// length on the wire. It is for programs of target File: what only a kernel
// knows does not exist for it.
func (p *Program) Match(data []byte, length uint32) bool { return run(p.raw, data, length) != 0 }

// Error is what is wrong with an expression.
type Error struct {
	Expr string
	Pos  int // offset in bytes into Expr; len(Expr) at its end
	Text string
}

func (e *Error) Error() string { return fmt.Sprintf("filter: %s (at character %d)", e.Text, e.Pos+1) }
