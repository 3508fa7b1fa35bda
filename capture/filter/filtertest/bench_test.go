package filtertest

import (
	"testing"

	"golang.org/x/net/bpf"
)

// benchmarked are filters of every length.
var benchmarked = []struct{ name, expr string }{
	{"ip", "ip"},
	{"tcp port 80", "tcp port 80"},
	{"host", "host 10.1.1.1"},
	{"syn or fin", "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0 and not src and dst net 192.168"},
	{"http with data", "tcp port 80 and (((ip[2:2] - ((ip[0]&0xf)<<2)) - ((tcp[12]&0xf0)>>2)) != 0)"},
	{"eight hosts", "host 10.0.0.1 or 10.0.0.2 or 10.0.0.3 or 10.0.0.4 or 10.0.0.5 or 10.0.0.6 or 10.0.0.7 or 10.0.0.8"},
}

// BenchmarkMatch measures Program.Match beside the virtual machine of
// golang.org/x/net/bpf with the same program, on packets that take every way
// through it.
func BenchmarkMatch(b *testing.B) {
	for _, c := range benchmarked {
		k := Case{Expr: c.expr, LinkType: LinkEthernet}
		ours, err := Ours(k)
		if err != nil {
			b.Skip(err)
		}
		frames := benchFrames(k)
		b.Run(c.name+"/Match", func(b *testing.B) {
			for i := range b.N {
				f := &frames[i%len(frames)]
				ours.Match(f.Data, f.Length)
			}
		})
		decoded, _ := bpf.Disassemble(ours.Raw)
		vm, err := bpf.NewVM(decoded)
		if err != nil {
			b.Log(err)
			continue
		}
		b.Run(c.name+"/x-net-vm", func(b *testing.B) {
			for i := range b.N {
				_, _ = vm.Run(frames[i%len(frames)].Data)
			}
		})
	}
}

func benchFrames(c Case) []Frame {
	r := seeded(9, 9)
	packets := NewPackets(r, c.LinkType, c.Expr)
	frames := make([]Frame, 256)
	for i := range frames {
		frames[i] = packets.Frame()
	}
	return frames
}

// BenchmarkCompile measures the compiler.
func BenchmarkCompile(b *testing.B) {
	for _, c := range benchmarked {
		k := Case{Expr: c.expr, LinkType: LinkEthernet}
		if _, err := Ours(k); err != nil {
			b.Skip(err)
		}
		b.Run(c.name, func(b *testing.B) {
			for range b.N {
				_, _ = Ours(k)
			}
		})
	}
}
