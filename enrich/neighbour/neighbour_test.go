package neighbour_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"capagent/enrich/indicator"
	"capagent/enrich/neighbour"
)

var (
	at  = indicator.At{Frame: 7, Time: 70}
	src = netip.MustParseAddr("fe80::1")
)

func bound(s *indicator.Set) []string {
	list := []string{}
	for _, b := range s.Bindings() {
		list = append(list, fmt.Sprintf("%v %x %v %d", b.How, b.MAC, b.IP, b.Count))
	}
	return list
}

func arp(op byte, ip byte) []byte {
	return []byte{0, 1, 8, 0, 6, 4, 0, op, 2, 0, 0, 0, 0, 1, 192, 0, 2, ip, 2, 0, 0, 0, 0, 2, 192, 0, 2, 2}
}

func TestSendersOfARP(t *testing.T) {
	s := indicator.New()
	for _, packet := range [][]byte{
		arp(1, 1), arp(2, 1), arp(2, 3), arp(3, 4), append([]byte{0, 6}, arp(1, 5)[2:]...), arp(1, 6)[:17],
		append(arp(1, 0)[:14], make([]byte, 14)...), // a probe
	} {
		neighbour.ARP(s, packet, at)
	}
	if diff := cmp.Diff([]string{"arp 020000000001 192.0.2.1 2", "arp 020000000001 192.0.2.3 1"}, bound(s)); diff != "" {
		t.Error(diff)
	}
}

func nd(kind byte, fixed int, options ...byte) []byte {
	b := make([]byte, fixed, fixed+len(options))
	b[0] = kind
	if kind >= 135 {
		a := netip.MustParseAddr("2001:db8::9").As16()
		copy(b[8:], a[:])
	}
	return append(b, options...)
}

func TestNeighbourDiscovery(t *testing.T) {
	source, target := []byte{1, 1, 2, 0, 0, 0, 0, 1}, []byte{2, 1, 2, 0, 0, 0, 0, 2}
	mtu := []byte{5, 1, 0, 0, 0, 0, 5, 220}
	for name, c := range map[string]struct {
		message []byte
		want    string
	}{
		"router solicitation":     {nd(133, 8, source...), "nd 020000000001 fe80::1 1"},
		"router advertisement":    {nd(134, 16, append(mtu, source...)...), "nd 020000000001 fe80::1 1"},
		"neighbour solicitation":  {nd(135, 24, source...), "nd 020000000001 fe80::1 1"},
		"neighbour advertisement": {nd(136, 24, target...), "nd 020000000002 2001:db8::9 1"},
		"wrong option":            {nd(136, 24, source...), ""},
		"no option":               {nd(135, 24), ""},
		"option of no length":     {nd(135, 24, append([]byte{5, 0, 0, 0, 0, 0, 0, 0}, source...)...), ""},
		"snapped":                 {nd(135, 24, source[:7]...), ""},
		"snapped target":          {nd(136, 24)[:23], ""},
		"code":                    {append([]byte{135, 1}, nd(135, 24, source...)[2:]...), ""},
		"redirect":                {nd(137, 40, target...), ""},
	} {
		s := indicator.New()
		neighbour.ND(s, src, c.message, at)
		want := []string{}
		if c.want != "" {
			want = append(want, c.want)
		}
		if diff := cmp.Diff(want, bound(s)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestDuplicateAddressDetectionBindsNothing(t *testing.T) {
	s := indicator.New()
	neighbour.ND(s, netip.IPv6Unspecified(), nd(135, 24, 1, 1, 2, 0, 0, 0, 0, 1), at)
	if got := bound(s); len(got) != 0 {
		t.Error(got)
	}
}

func TestKnownBindingsCostNoMemory(t *testing.T) {
	s := indicator.New()
	a, n := arp(1, 1), nd(136, 24, 2, 1, 2, 0, 0, 0, 0, 2)
	see := func() {
		neighbour.ARP(s, a, at)
		neighbour.ND(s, src, n, at)
	}
	see()
	if n := testing.AllocsPerRun(100, see); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzARP(f *testing.F) {
	f.Add(arp(1, 1))
	f.Fuzz(func(t *testing.T, b []byte) { neighbour.ARP(indicator.New(), b, at) })
}

func FuzzND(f *testing.F) {
	f.Add(nd(135, 24, 1, 1, 2, 0, 0, 0, 0, 1))
	f.Add(nd(134, 16, 5, 1, 0, 0, 0, 0, 5, 220, 1, 1, 2, 0, 0, 0, 0, 1))
	f.Fuzz(func(t *testing.T, b []byte) { neighbour.ND(indicator.New(), src, b, at) })
}
