package filter_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"golang.org/x/net/bpf"

	"capagent/capture/filter"
)

// fuzzLinks are the link types that FuzzCompile chooses from.
var fuzzLinks = []filter.Options{
	{LinkType: 1},
	{LinkType: 1, Target: filter.Live},
	{LinkType: 276, Target: filter.LiveCooked},
	{LinkType: 113, Target: filter.LiveCooked},
	{LinkType: 101},
	{LinkType: 0},
	{LinkType: 108},
	{LinkType: 113},
	{LinkType: 276},
	{LinkType: 105},
	{LinkType: 127},
	{LinkType: 119},
	{LinkType: 192},
	{LinkType: 9},
}

// FuzzCompile: no expression makes the compiler panic or hang, an error tells
// where, and a program is one that a kernel takes.
func FuzzCompile(f *testing.F) {
	for i, expr := range []string{
		"", "tcp port 80 or 443", "vlan 100 and not (host 10.0.0.1 or 2001:db8::1)",
		"tcp[((tcp[12] & 0xf0) >> 2):4] = 0x47455420", "mpls 1 && pppoes 2 and ip6 protochain 6",
		"geneve 5 or vxlan and ether host 02:00:00:00:00:01", "wlan addr2 02:00:00:00:00:01 and type data subtype qos",
		"-len % 3 ^ 7 * ip[0] << 2 > 0", "portrange 1-65535 and proto \\tcp", "((((ip))))", "! ! ! ip",
		"decnet host 1.2 or llc u or iso proto \\isis", "inbound and ifindex 3", "ip broadcast and net 10 mask 255.0.0.0",
	} {
		f.Add(expr, uint8(i))
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // no name is looked up outside
	f.Fuzz(func(t *testing.T, expr string, link uint8) {
		if len(expr) > 2048 {
			return
		}
		o := fuzzLinks[int(link)%len(fuzzLinks)]
		p, err := filter.Compile(ctx, expr, o)
		if err != nil {
			var e *filter.Error
			if !errors.As(err, &e) || e.Pos < 0 || e.Pos > len(expr) || e.Text == "" || e.Expr != expr {
				t.Fatalf("%q: %#v", expr, err)
			}
			return
		}
		if err := valid(p.Raw(), o.Target != filter.File); err != nil && !strings.Contains(expr, "protochain") {
			t.Fatalf("%q: %v", expr, err)
		}
		packet := []byte(expr + strings.Repeat("\x45", 64))
		p.Match(packet, uint32(len(packet)))
		p.Match(packet[:len(packet)/3], uint32(len(packet)))
	})
}

// valid checks what a kernel does: jumps go forward and stay inside, the last
// instruction returns, and no scratch register is read before it is set.
func valid(prog []bpf.RawInstruction, kernel bool) error {
	if len(prog) == 0 || kernel && len(prog) > 4096 || prog[len(prog)-1].Op != 0x06 {
		return errors.New("no return at the end, or too long")
	}
	set := make([]uint16, len(prog))
	for i := range set {
		set[i] = 0xffff
	}
	set[0] = 0
	for i, in := range prog {
		if _, unknown := in.Disassemble().(bpf.RawInstruction); unknown && in.Op&7 != 5 {
			return errors.New("unknown instruction")
		}
		s, next := set[i], []int{0}
		switch {
		case in.Op&7 == 2 || in.Op&7 == 3:
			s |= 1 << in.K
		case in.Op == 0x60 || in.Op == 0x61:
			if kernel && s&(1<<in.K) == 0 {
				return errors.New("scratch register not set")
			}
		case in.Op == 0x05:
			next = []int{int(int32(in.K))}
		case in.Op&7 == 5:
			next = []int{int(in.Jt), int(in.Jf)}
		case in.Op&7 == 6:
			next = nil
		}
		for _, n := range next {
			if n < 0 || i+1+n >= len(prog) {
				return errors.New("jump out of the program")
			}
			set[i+1+n] &= s
		}
	}
	return nil
}

// TestLargeExpressions: the longest expressions are compiled or refused, and soon.
func TestLargeExpressions(t *testing.T) {
	repeat := func(s string) string { return strings.Repeat(s, (64<<10)/len(s)-16) }
	for name, c := range map[string]struct{ expr, refused string }{
		"ands":        {"ip" + repeat(" and ip"), ""},
		"ors":         {"ip" + repeat(" or arp"), ""},
		"ports":       {"port 1" + repeat(" or port 2"), "too complex"},
		"brackets":    {repeat("(") + "ip", "too deeply"},
		"nots":        {repeat("! ") + "ip", "too deeply"},
		"sum":         {"1" + repeat("+1") + " = len", ""},
		"remainders":  {"1" + repeat("%1") + " = len", "too deeply"},
		"minus":       {repeat("-") + "1 = len", "too deeply"},
		"hosts":       {"host 10.0.0.1" + repeat(" or 10.0.0.2"), "too complex"},
		"colons":      {repeat("a:"), "invalid MAC"},
		"vlans":       {"vlan" + repeat(" and vlan"), ""},
		"indexes":     {repeat("ip["), "too deeply"},
		"backslashes": {"port \\" + repeat("a"), "unknown port"},
		"tunnels":     {"geneve" + repeat(" and geneve"), "too many values"},
		"loops":       {"proto 6" + repeat(" or protochain 6"), ""},
		"long":        {repeat("ip") + repeat("ip"), "longer than"},
	} {
		_, err := filter.Compile(context.Background(), c.expr, filter.Options{LinkType: 1})
		var e *filter.Error
		if c.refused == "" && err != nil || c.refused != "" && (!errors.As(err, &e) || !strings.Contains(e.Text, c.refused)) {
			t.Errorf("%s: %.200v", name, err)
		}
	}
}
