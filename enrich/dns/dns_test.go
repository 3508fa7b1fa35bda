package dns_test

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"capagent/enrich/dns"
	"capagent/enrich/indicator"
)

var at = indicator.At{Frame: 7, Time: 70}

// listed returns what is in a set, one line each: roles, type, value, count.
func listed(s *indicator.Set) []string {
	list := []string{}
	for _, i := range s.List() {
		list = append(list, fmt.Sprintf("%s %s %s %d", strings.Join(i.Role.Names(), ","), i.Type, i.Value, i.Count))
	}
	return list
}

func of(kind dns.Kind, msg []byte) []string {
	s := indicator.New()
	dns.Message(s, msg, kind, at)
	return listed(s)
}

func equal(t *testing.T, got []string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(append([]string{}, want...), got); diff != "" {
		t.Error(diff)
	}
}

// wire encodes a name; a label that begins with '*' is a pointer to that offset.
func wire(name string) []byte {
	var b []byte
	for _, label := range strings.Split(name, ".") {
		if to := 0; len(label) > 1 && label[0] == '*' {
			fmt.Sscan(label[1:], &to)
			return append(b, 0xc0|byte(to>>8), byte(to))
		}
		if label != "" {
			b = append(append(b, byte(len(label))), label...)
		}
	}
	return append(b, 0)
}

func message(questions []string, records ...[]byte) []byte {
	b := make([]byte, 12)
	binary.BigEndian.PutUint16(b[4:], uint16(len(questions)))
	binary.BigEndian.PutUint16(b[6:], uint16(len(records)))
	for _, q := range questions {
		b = append(append(b, wire(q)...), 0, 1, 0, 1)
	}
	for _, r := range records {
		b = append(b, r...)
	}
	return b
}

func record(owner string, kind uint16, data ...byte) []byte {
	b := wire(owner)
	b = binary.BigEndian.AppendUint16(b, kind)
	b = append(b, 0, 1, 0, 0, 0, 60)
	b = binary.BigEndian.AppendUint16(b, uint16(len(data)))
	return append(b, data...)
}

func TestEveryNameAndAddressIsFound(t *testing.T) {
	with := func(prefix string, name string) []byte { return append([]byte(prefix), wire(name)...) }
	equal(
		t, of(dns.Unicast, message(
			[]string{"WWW.example.com"},
			record("*12", 5, wire("cdn.*16")...),
			record("cdn.*16", 1, 192, 0, 2, 1),
			record("cdn.*16", 1, 192, 0, 2, 2),
			record("cdn.*16", 28, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1),
			record("ns.example", 2, wire("ns1.example")...),
			record("4.3.2.1.in-addr.arpa", 12, wire("ptr.example")...),
			record("mx.example", 15, with("\x00\x0a", "mail.example")...),
			record("_sip._tcp.example", 33, with("\x00\x00\x00\x00\x13\xc4", "sip.example")...),
			record("soa.example", 6, append(append(wire("master.example"), wire("admin.example")...), make([]byte, 20)...)...),
			record("d.example", 39, wire("dname.example")...),
			record("h.example", 65, with("\x00\x01", "svc.example")...),
			record("s.example", 64, with("\x00\x01", "")...),
			record("", 41),
			record("t.example", 16, []byte("\x0bnot.a.host.")...),
		)),
		"dns.answer address 192.0.2.1 1", "dns.answer address 192.0.2.2 1", "dns.answer address 2001:db8::1 1",
		"dns.question,dns.answer host www.example.com 2",
		"dns.answer host cdn.example.com 2", // as a target, and as the owner of three records
		"dns.answer host ns.example 1", "dns.answer host ns1.example 1",
		"dns.answer host 4.3.2.1.in-addr.arpa 1", "dns.answer host ptr.example 1",
		"dns.answer host mx.example 1", "dns.answer host mail.example 1",
		"dns.answer host _sip._tcp.example 1", "dns.answer host sip.example 1",
		"dns.answer host soa.example 1", "dns.answer host master.example 1",
		"dns.answer host d.example 1", "dns.answer host dname.example 1",
		"dns.answer host h.example 1", "dns.answer host svc.example 1",
		"dns.answer host s.example 1", "dns.answer host t.example 1",
	)
}

func TestStrangeLabelsKeepTheNamesStructure(t *testing.T) {
	msg := make([]byte, 12)
	msg[5] = 4
	for _, labels := range []string{"\x04a.b\\\x03com\x00", "\x04Pri \x02x.\x00", "\x06b\xc3\xbcche\x02DE\x00", "\x01\xff\x00"} {
		msg = append(append(msg, labels...), 0, 1, 0, 1)
	}
	equal(
		t, of(dns.Unicast, msg),
		`dns.question host a\.b\\.com 1`, `dns.question host pri\032.x\. 1`,
		"dns.question host xn--bche-0ra.de 1", `dns.question host \255 1`,
	)
}

func TestNamesOfOneLinkStandApart(t *testing.T) {
	msg := message([]string{"Laptop-1.local"}, record("*12", 1, 192, 0, 2, 1), record("_ipp._tcp.local", 12, wire("Büro 2.*21")...))
	equal(
		t, of(dns.MDNS, msg),
		"mdns address 192.0.2.1 1", "mdns local_host laptop-1.local 2", "mdns local_host _ipp._tcp.local 1",
		`mdns local_host xn--bro\0322-kva.local 1`,
	)
	equal(t, of(dns.LLMNR, message([]string{"WIN-7"})), "llmnr local_host win-7 1")
}

func netbios(name string, suffix byte) string {
	var b []byte
	for i := range 16 {
		c := byte(' ')
		if i < len(name) {
			c = name[i]
		}
		if i == 15 {
			c = suffix
		}
		b = append(b, 'A'+c>>4, 'A'+c&15)
	}
	return string(b)
}

func TestNetBIOSNamesAreDecoded(t *testing.T) {
	star := strings.Replace(netbios("*", 0), strings.Repeat("CA", 14), strings.Repeat("AA", 14), 1)
	equal(
		t, of(dns.NetBIOS, message(
			[]string{netbios("FRED", 0x1b), netbios("Lab PC", 0) + ".scope.example", star, "short", netbios("x", 0) + "A"},
			record("*12", 32, 0x60, 0, 192, 0, 2, 9),
			record(netbios("SRV", 0), 33, []byte("\x02WORK           \x1e\x80\x00SRV            \x00\x04\x00\x00\x01")...),
		)),
		"netbios address 192.0.2.9 1",
		"netbios local_host fred 2", `netbios local_host lab\032pc.scope.example 1`,
		"netbios local_host srv 2", "netbios local_host work 1",
	)
}

func TestWhatStandsBeforeDamageCounts(t *testing.T) {
	whole := message(
		[]string{"a.example"},
		record("b.example", 1, 192, 0, 2, 1), record("c.example", 5, wire("d.example")...), record("e.example", 28, make([]byte, 16)...),
	)
	seen := 0
	for n := range whole {
		got := of(dns.Unicast, whole[:n])
		if len(got) < seen {
			t.Fatalf("%d bytes: %q", n, got)
		}
		seen = len(got)
	}
	if seen != 6 {
		t.Errorf("%d found in all but the last byte", seen)
	}
	for name, msg := range map[string][]byte{
		"loop":     message([]string{"a.example", "x.*27"}),
		"forward":  message([]string{"a.example", "x.*35"}, record("b.example", 1, 192, 0, 2, 1)),
		"extended": append(message([]string{"a.example", ""})[:27], 0x41, 1, 0),
		"counts":   append(message([]string{"a.example"})[:27], 0xff, 0xff),
		"long":     message([]string{"a.example", strings.Repeat("a23456789.", 26)}),
	} {
		msg[5] = 0xff
		if got := of(dns.Unicast, msg); len(got) != 1 {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestHostileCompressionIsBounded(t *testing.T) {
	long := strings.Repeat("a23456789.", 25)
	var records [][]byte
	for range 3000 {
		records = append(records, record("*12", 16), record("*22", 16))
	}
	s := indicator.New()
	dns.Message(s, message([]string{long}, records...), dns.Unicast, at)
	if s.Limits()[dns.LimitNames] != 1 || s.List()[0].Count > 6000 {
		t.Errorf("%v %v", s.Limits(), s.List()[0].Count)
	}
}

func TestManyRecordsOfOneNameAreNoCompressionBomb(t *testing.T) {
	long := strings.Repeat("a23456789.", 25)
	records := [][]byte{record(long, 16)} // at 262
	for range 3000 {
		records = append(records, record("*262", 16))
	}
	s := indicator.New()
	dns.Message(s, message([]string{"a.example", long[:230]}, records...), dns.Unicast, at)
	if l := s.List(); len(s.Limits()) != 0 || len(l) != 3 || l[2].Count != 1 {
		t.Errorf("%v %v", s.Limits(), listed(s))
	}
}

func TestKnownNamesCostNoMemory(t *testing.T) {
	s := indicator.New()
	for _, kind := range []dns.Kind{dns.Unicast, dns.MDNS, dns.NetBIOS} {
		msg := message(
			[]string{"desktop-1", "a b", netbios("SRV-2", 0)},
			record("*12", 1, 192, 0, 2, 1), record("x.*12", 5, wire("cdn.example")...),
		)
		see := func() { dns.Message(s, msg, kind, at) }
		see()
		if n := testing.AllocsPerRun(100, see); n != 0 {
			t.Errorf("%v: %v allocations", kind, n)
		}
	}
}

func BenchmarkMessage(b *testing.B) {
	s := indicator.New()
	msg := message(
		[]string{"www.example.com"},
		record("*12", 5, wire("cdn.example")...), record("*33", 1, 192, 0, 2, 1), record("*33", 1, 192, 0, 2, 2),
	)
	b.ReportAllocs()
	b.SetBytes(int64(len(msg)))
	for b.Loop() {
		dns.Message(s, msg, dns.Unicast, at)
	}
}

func FuzzMessage(f *testing.F) {
	f.Add(byte(0), message([]string{"a.example"}, record("*12", 5, wire("b.*14")...), record("*12", 1, 1, 2, 3, 4)))
	f.Add(byte(3), message([]string{netbios("FRED", 0)}, record("*12", 33, []byte("\x01WORK           \x1e\x80\x00\x00")...)))
	f.Add(byte(1), message([]string{"x.local"}, record("_ipp._tcp.local", 33, append(make([]byte, 6), wire("h.*12")...)...)))
	f.Fuzz(func(t *testing.T, kind byte, msg []byte) {
		s := indicator.New()
		dns.Message(s, msg, dns.Kind(kind&3), at)
		for _, i := range s.List() {
			if i.Value == "" || i.Count < 1 {
				t.Errorf("%+v", i)
			}
		}
	})
}
