package dhcp_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"capagent/enrich/dhcp"
	"capagent/enrich/indicator"
)

var at = indicator.At{Frame: 7, Time: 70}

func found(s *indicator.Set) []string {
	list := []string{}
	for _, i := range s.List() {
		list = append(list, fmt.Sprintf("%s %s %s %d", strings.Join(i.Role.Names(), ","), i.Type, i.Value, i.Count))
	}
	for _, b := range s.Bindings() {
		list = append(list, fmt.Sprintf("%v %x %v %q", b.How, b.MAC, b.IP, b.Name))
	}
	return list
}

func equal(t *testing.T, s *indicator.Set, want ...string) {
	t.Helper()
	if diff := cmp.Diff(append([]string{}, want...), found(s)); diff != "" {
		t.Error(diff)
	}
}

func option(code byte, data string) string { return string([]byte{code, byte(len(data))}) + data }

// v4 builds a message of 02:00:00:00:00:mac, to which yiaddr 192.0.2.mac belongs.
func v4(op, mac byte, options ...string) []byte {
	b := make([]byte, 236)
	b[0], b[1], b[2] = op, 1, 6
	if op == 2 {
		copy(b[16:], []byte{192, 0, 2, mac})
	}
	copy(b[28:], []byte{2, 0, 0, 0, 0, mac})
	return append(b, "\x63\x82\x53\x63"+strings.Join(options, "")+"\xff"...)
}

func kind(k byte) string { return option(53, string(k)) }

func TestNamesOfAMessage(t *testing.T) {
	s := indicator.New()
	msg := v4(
		1, 9, kind(1), "\x00\x00", option(12, "My Phone\x00"), option(15, "example.org\x00"),
		option(81, "\x00\xff\xffold.example"), option(81, "\x04\xff\xff\x03new\x07example\x00"), option(81, "\x04\xff\xff\x07partial"),
		option(119, "\x03eng\x07example\x00\x09mar"), option(119, "keting\xc0\x04"), option(52, "\x03"), "\xff",
	)
	copy(msg[108:], option(12, "in-file")+"\xff")
	copy(msg[44:], option(15, "in-sname")+"\xff")
	dhcp.New(s).V4(msg, at)
	equal(
		t, s, `dhcp host my\032phone 1`, "dhcp host example.org 1", "dhcp host old.example 1", "dhcp host new.example 1",
		"dhcp host partial 1", "dhcp host in-file 1", "dhcp host in-sname 1", "dhcp host eng.example 1", "dhcp host marketing.example 1",
	)
}

func TestTheRequestsNameIsBoundByTheACK(t *testing.T) {
	s := indicator.New()
	d := dhcp.New(s)
	d.V4(v4(1, 1, kind(3), option(12, "laptop")), at)
	d.V4(v4(1, 2, kind(3), option(81, "\x04\xff\xff\x03new\x07example\x00"), option(119, "\x01x\x00")), at)
	for mac := byte(1); mac <= 3; mac++ {
		d.V4(v4(2, mac, kind(2)), at) // an offer binds nothing
		d.V4(v4(2, mac, kind(5)), at)
	}
	d.V4(v4(2, 5, kind(2)), at)
	d.V4(v4(2, 4, kind(5), option(12, "by-server")), at)
	equal(
		t, s, "dhcp host laptop 1", "dhcp host new.example 1", "dhcp host x 1", "dhcp host by-server 1",
		`dhcp 020000000001 192.0.2.1 "laptop"`, `dhcp 020000000002 192.0.2.2 "new.example"`,
		`dhcp 020000000003 192.0.2.3 ""`, `dhcp 020000000004 192.0.2.4 "by-server"`,
	)
}

func TestOnlySoManyClientsAreKept(t *testing.T) {
	s := indicator.New()
	d := dhcp.New(s)
	for mac := range byte(200) {
		d.V4(v4(1, mac+1, kind(3), option(12, "x")), at)
	}
	for range 200 {
		d.V4(v4(1, 200, kind(3), option(12, "x")), at)
	}
	for _, mac := range []byte{1, 100, 200} {
		d.V4(v4(2, mac, kind(5)), at)
	}
	equal(t, s, "dhcp host x 400", `dhcp 020000000001 192.0.2.1 ""`, `dhcp 020000000064 192.0.2.100 "x"`, `dhcp 0200000000c8 192.0.2.200 "x"`)
}

func option6(code byte, data string) string {
	return string([]byte{0, code, byte(len(data) >> 8), byte(len(data))}) + data
}

const mac6 = "\x02\x00\x00\x00\x00\x07"

func address6(last, lifetime byte) string {
	a := netip.MustParseAddr("2001:db8::").As16()
	a[15] = last
	return option6(3, string(make([]byte, 12))+option6(5, string(a[:])+"\x00\x00\x00\x01\x00\x00\x00"+string(lifetime)))
}

func TestIPv6(t *testing.T) {
	s := indicator.New()
	d := dhcp.New(s)
	client := option6(1, "\x00\x03\x00\x01"+mac6)
	request := "\x03abc" + client + option6(39, "\x00\x06laptop\x07example\x00") + address6(9, 60)
	relayed := "\x0c\x01" + string(make([]byte, 32)) + option6(9, request)
	d.V6([]byte(relayed), at)
	d.V6([]byte("\x07abc"+address6(1, 60)+address6(2, 0)+client+option6(24, "\x01a\x00\x01b\x01c\x00")), at)
	d.V6([]byte("\x07abc"+address6(3, 1)+option6(1, "\x00\x01\x00\x01time"+mac6[:5]+"\x08")+option6(39, "\x00\x01s")), at)
	equal(
		t, s, "dhcp host laptop.example 1", "dhcp host a 1", "dhcp host b.c 1", "dhcp host s 1",
		`dhcp 020000000007 2001:db8::1 "laptop.example"`, `dhcp 020000000008 2001:db8::3 "s"`,
	)
}

func TestRelaysInRelaysEnd(t *testing.T) {
	s := indicator.New()
	msg := "\x01abc" + option6(39, "\x00\x01s")
	for range 20 {
		msg = "\x0c\x01" + string(make([]byte, 32)) + option6(9, msg)
	}
	dhcp.New(s).V6([]byte(msg), at)
	equal(t, s)
}

func TestHostileCompressionIsBounded(t *testing.T) {
	s := indicator.New()
	long := strings.Repeat("\x0aa234567890", 20) + "\x00"
	dhcp.New(s).V4(v4(1, 1, option(119, long), option(119, strings.Repeat("\xc0\x00", 100))), at)
	if s.Limits()[dhcp.LimitNames] != 1 || len(s.List()) != 1 {
		t.Errorf("%v %v", s.Limits(), found(s))
	}
}

func TestKnownNamesCostNoMemory(t *testing.T) {
	s := indicator.New()
	d := dhcp.New(s)
	msgs := [][]byte{
		v4(1, 1, kind(3), option(12, "laptop-2"), option(119, "\x03eng\x07example\x00")), v4(2, 1, kind(5), option(15, "example.org")),
	}
	reply6 := []byte("\x07abc" + option6(1, "\x00\x03\x00\x01"+mac6) + address6(1, 60) + option6(24, "\x01a\x00"))
	see := func() {
		for _, m := range msgs {
			d.V4(m, at)
		}
		d.V6(reply6, at)
	}
	see()
	if n := testing.AllocsPerRun(100, see); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzV4(f *testing.F) {
	f.Add(v4(1, 1, kind(3), option(12, "laptop"), option(81, "\x04\xff\xff\x03new\x00"), option(119, "\x03eng\x07example\x00\xc0\x04"), option(52, "\x03")))
	f.Add(v4(2, 1, kind(5), option(15, "example.org")))
	f.Fuzz(func(t *testing.T, msg []byte) {
		before := bytes.Clone(msg)
		d := dhcp.New(indicator.New())
		d.V4(msg, at)
		d.V4(msg[:len(msg)/2], at)
		if !bytes.Equal(msg, before) {
			t.Error("the message was changed")
		}
	})
}

func FuzzV6(f *testing.F) {
	f.Add([]byte("\x07abc" + option6(1, "\x00\x03\x00\x01"+mac6) + address6(1, 60) + option6(24, "\x01a\x00") + option6(39, "\x00\x01s")))
	f.Add([]byte("\x0c\x01" + string(make([]byte, 32)) + option6(9, "\x01abc"+option6(39, "\x00\x01s"))))
	f.Fuzz(func(t *testing.T, msg []byte) {
		dhcp.New(indicator.New()).V6(msg, at)
	})
}
