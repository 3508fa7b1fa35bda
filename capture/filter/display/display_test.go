package display_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"capagent/capture/filter"
	"capagent/capture/filter/display"
)

// translated are expressions with their translation; "" where there is none.
var translated = []struct{ expr, want string }{
	{"tcp port 443", "tcp.port == 443"},
	{"port 53", "tcp.port == 53 or udp.port == 53 or sctp.port == 53"},
	{"tcp port 80 or 443", "tcp.port == 80 or tcp.port == 443"},
	{"tcp port (80 or 443)", "tcp.port == 80 or tcp.port == 443"},
	{"tcp src port 80", "tcp.srcport == 80"},
	{"src and dst port 53", "(tcp.srcport == 53 and tcp.dstport == 53) or (udp.srcport == 53 and udp.dstport == 53) or (sctp.srcport == 53 and sctp.dstport == 53)"},
	{"udp portrange 5000-5010", "(udp.srcport >= 5000 and udp.srcport <= 5010) or (udp.dstport >= 5000 and udp.dstport <= 5010)"},
	{"udp dst portrange 5010-5000", "(udp.dstport >= 5000 and udp.dstport <= 5010)"},
	{"host 192.0.2.7", "ip.addr == 192.0.2.7 or arp.src.proto_ipv4 == 192.0.2.7 or arp.dst.proto_ipv4 == 192.0.2.7"},
	{"tcp port 443 and host 192.0.2.7", "tcp.port == 443 and ip.addr == 192.0.2.7"},
	{"host 192.0.2.7 && (tcp || udp)", "ip.addr == 192.0.2.7 and (tcp or udp)"},
	{"src host 192.0.2.7 and icmp", "ip.src == 192.0.2.7 and icmp"},
	{"192.0.2.7", ""},
	{"dst 192.0.2.7", "ip.dst == 192.0.2.7 or arp.dst.proto_ipv4 == 192.0.2.7"},
	{"src or dst 192.0.2.7 and tcp", "ip.addr == 192.0.2.7 and tcp"},
	{"src and dst 192.0.2.7 and tcp", "(ip.src == 192.0.2.7 and ip.dst == 192.0.2.7) and tcp"},
	{"ip host 192.0.2.7", "ip.addr == 192.0.2.7"},
	{"arp host 192.0.2.7", "arp.src.proto_ipv4 == 192.0.2.7 or arp.dst.proto_ipv4 == 192.0.2.7"},
	{"net 192.0.2.0/24 and tcp", "ip.addr == 192.0.2.0/24 and tcp"},
	{"ip net 10", "ip.addr == 10.0.0.0/8"},
	{"ip src net 192.0.2", "ip.src == 192.0.2.0/24"},
	{"ip net 192.0.2.0 mask 255.255.255.0", "ip.addr == 192.0.2.0/24"},
	{"host 2001:db8::1", "ipv6.addr == 2001:db8::1"},
	{"src net 2001:db8::/32", "ipv6.src == 2001:db8::/32"},
	{"ether host 02:00:00:00:00:01", "eth.addr == 02:00:00:00:00:01"},
	{"ether src 02:00:00:00:00:01", "eth.src == 02:00:00:00:00:01"},
	{"ip6", "ipv6"},
	{"icmp6 or arp", "icmpv6 or arp"},
	{"not port 22", "not (tcp.port == 22 or udp.port == 22 or sctp.port == 22)"},
	{"not tcp port 22 and not arp", "not tcp.port == 22 and not arp"},
	{"!(tcp port 22 or arp)", "not (tcp.port == 22 or arp)"},
	// and and or bind alike here, and never there.
	{"tcp or udp and host 10.0.0.1", "(tcp or udp) and ip.addr == 10.0.0.1"},
	{"arp or udp and host 10.0.0.1", "(arp or udp) and (ip.addr == 10.0.0.1 or arp.src.proto_ipv4 == 10.0.0.1 or arp.dst.proto_ipv4 == 10.0.0.1)"},
	{"tcp and host 10.0.0.1 or arp", "(tcp and ip.addr == 10.0.0.1) or arp"},
	{"host 10.0.0.1 and not 10.0.0.2 and tcp", "ip.addr == 10.0.0.1 and not ip.addr == 10.0.0.2 and tcp"},
	{"vlan", "vlan or ieee8021ad"},
	{"vlan 7 and tcp port 80", "(vlan.id == 7 or ieee8021ad.id == 7) and tcp.port == 80"},
	{"less 100", "frame.len <= 100"},
	{"udp and greater 1000", "udp and frame.len >= 1000"},

	// What shifts the rest, looks at bytes, or needs names that only this machine has.
	{"", ""},
	{"not vlan", ""},
	{"tcp or vlan 7", ""},
	{"(vlan 7 or arp) and tcp", ""},
	{"vlan 5 and vlan 7", ""},
	{"tcp[13] & 2 != 0", ""},
	{"tcp[tcpflags] == tcp-syn", ""},
	{"host example.com", ""},
	{"tcp port http", ""},
	{"broadcast", ""},
	{"ether broadcast", ""},
	{"ip proto 47", ""},
	{"len > 100", ""},
	{"mpls", ""},
	{"gateway 10.0.0.1", ""},
	{"host 010.0.0.1", ""},
	{"net 10.0.0.1/8", ""},
	{"host 10.0.0.0/8", ""},
	{"tcp port 70000", ""},
	{"tcp port", ""},
	{"(tcp", ""},
	{"tcp)", ""},
	{"tcp and", ""},
	{"tcp or 443", ""},
	{"port 1-2", ""},
	{"vlan 5000", ""},
	{strings.Repeat("(", 500) + "tcp" + strings.Repeat(")", 500), ""},
	{strings.Repeat("not ", 500) + "tcp", ""},
	{strings.Repeat("tcp or ", 500) + "tcp", ""},
}

func TestFilter(t *testing.T) {
	for _, tc := range translated {
		if got, ok := display.Filter(tc.expr); got != tc.want || ok != (tc.want != "") {
			t.Errorf("%.80s\n got %q, %v\nwant %q", tc.expr, got, ok, tc.want)
		}
	}
}

// Wireshark is asked whether it passes the packets that the capture filter does.
func TestWiresharkPassesTheSamePackets(t *testing.T) {
	tshark, err := exec.LookPath("tshark")
	if err != nil {
		t.Skip(err)
	}
	plain := packets()
	for name, frames := range map[string][][]byte{"plain": plain, "tagged": append(tagged(plain), plain...)} {
		t.Run(name, func(t *testing.T) { compare(t, tshark, frames, name == "tagged") })
	}
}

// compare tries the expressions with "vlan", or those without.
func compare(t *testing.T, tshark string, frames [][]byte, vlan bool) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.pcap")
	if err := os.WriteFile(path, pcap(frames), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"-n", "-q", "-r", path}
	var exprs, want []string
	cases := slices.Clone(translated)
	random := rand.New(rand.NewPCG(5, 22))
	for len(cases) < len(translated)+100 {
		expr := anyOf(random, 0)
		if vlan {
			expr = "vlan 7 and (" + expr + ")"
		}
		shown, ok := display.Filter(expr)
		if _, err := filter.Compile(t.Context(), expr, filter.Options{LinkType: 1}); err != nil {
			continue // nothing passes it
		}
		if !ok {
			t.Fatalf("not translated: %s", expr)
		}
		cases = append(cases, struct{ expr, want string }{expr, shown})
	}
	for at, tc := range cases {
		if tc.want == "" || vlan != strings.Contains(tc.expr, "vlan") {
			continue
		}
		p, err := filter.Compile(t.Context(), tc.expr, filter.Options{LinkType: 1})
		if err != nil {
			t.Errorf("%s: %v", tc.expr, err)
			continue
		}
		count, bytes := 0, 0
		for _, f := range frames {
			if p.Match(f, uint32(len(f))) {
				count++
				bytes += len(f)
			}
		}
		if at < len(translated) && (count == 0 || count == len(frames)) {
			t.Errorf("%s: %d packets pass", tc.expr, count)
		}
		exprs, want = append(exprs, tc.expr), append(want, fmt.Sprintf("%d | %d", count, bytes))
		args = append(args, "-z", "io,stat,0,"+tc.want)
	}
	out, err := exec.CommandContext(t.Context(), tshark, args...).Output()
	if err != nil {
		t.Fatal(err)
	}
	stats := regexp.MustCompile(`(?m)<>.*\| +(\d+) \| +(\d+) \|`).FindAllSubmatch(out, -1)
	if len(stats) != len(want) || len(want) == 0 {
		t.Fatalf("%d of %d were tried:\n%s", len(stats), len(want), out)
	}
	slices.Reverse(stats) // tshark's order
	for i, s := range stats {
		if got := fmt.Sprintf("%s | %s", s[1], s[2]); got != want[i] {
			t.Errorf("%s: %s packets and bytes pass; by Wireshark %s", exprs[i], want[i], got)
		}
	}
}

// anyOf is a random expression of parts that the packets tell apart.
func anyOf(r *rand.Rand, depth int) string {
	parts := []string{
		"tcp", "udp", "icmp", "arp", "ip", "ip6", "sctp", "port 53", "tcp port 443", "src port 80", "dst portrange 5000-5010",
		"tcp port (80 or 443)", "udp port 53 or 9", "host 10.0.0.1", "src host 192.0.2.7", "dst host 10.0.0.2", "net 10.0.0.0/8",
		"src and dst host 10.0.0.1", "host 10.0.0.1 or 10.0.0.2", "ip6 host 2001:db8::1", "less 300", "ether src 02:00:00:00:00:01",
	}
	if depth > 3 || r.IntN(3) == 0 {
		return parts[r.IntN(len(parts))]
	}
	switch r.IntN(6) {
	case 0:
		return "not " + anyOf(r, depth+1)
	case 1:
		return "(" + anyOf(r, depth+1) + ")"
	case 2, 3:
		return anyOf(r, depth+1) + " and " + anyOf(r, depth+1)
	default:
		return anyOf(r, depth+1) + " or " + anyOf(r, depth+1)
	}
}

// packets are frames of all kinds that the expressions tell apart.
func packets() (all [][]byte) {
	v4 := []string{"\xc0\x00\x02\x07", "\x0a\x00\x00\x01", "\x0a\x00\x00\x02"}
	v6 := []string{"\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01", "\xfd\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02"}
	ports := [][2]uint16{{40000, 443}, {80, 40001}, {53, 53}, {40002, 22}, {5003, 40003}, {40004, 5010}, {40005, 9}}
	add := func(etherType uint16, payload []byte) {
		all = append(all, frame(etherType, payload))
	}
	for _, src := range v4 {
		for _, dst := range v4 {
			for _, p := range ports {
				for _, proto := range []byte{6, 17, 132} {
					add(0x0800, ip4(proto, src, dst, transport(proto, p)))
				}
			}
			add(0x0800, ip4(1, src, dst, []byte{8, 0, 0xf7, 0xff, 0, 0, 0, 0}))
			add(0x0806, []byte("\x00\x01\x08\x00\x06\x04\x00\x01\x02\x00\x00\x00\x00\x01"+src+"\x02\x00\x00\x00\x00\x02"+dst))
		}
	}
	for _, src := range v6 {
		for _, dst := range v6 {
			for _, p := range ports {
				for _, proto := range []byte{6, 17} {
					add(0x86dd, ip6(proto, src, dst, transport(proto, p)))
				}
			}
			add(0x86dd, ip6(58, src, dst, []byte{128, 0, 0, 0, 0, 0, 0, 0}))
		}
	}
	for _, f := range all[:len(all):len(all)] { // again, of other machines
		f = slices.Clone(f)
		f[5], f[11] = 9, 8
		all = append(all, f)
	}
	big := ip4(17, v4[0], v4[1], append(transport(17, ports[2]), make([]byte, 1200)...))
	add(0x0800, big)
	for i := range all { // each of another length, so that sums tell them apart
		all[i] = append(slices.Clip(all[i]), make([]byte, 7*i%613)...)
	}
	return all
}

// tagged are the same frames with a VLAN tag.
func tagged(frames [][]byte) (all [][]byte) {
	for i, f := range frames {
		tag := []byte{0x81, 0, 0, byte(7 + i%2)}
		all = append(all, slices.Concat(f[:12], tag, f[12:]))
	}
	return all
}

func frame(etherType uint16, payload []byte) []byte {
	return slices.Concat([]byte("\x02\x00\x00\x00\x00\x02\x02\x00\x00\x00\x00\x01"), binary.BigEndian.AppendUint16(nil, etherType), payload)
}

func ip4(proto byte, src, dst string, payload []byte) []byte {
	h := []byte{0x45, 0, 0, 0, 0, 1, 0, 0, 64, proto, 0, 0}
	binary.BigEndian.PutUint16(h[2:], uint16(20+len(payload)))
	return slices.Concat(h, []byte(src), []byte(dst), payload)
}

func ip6(proto byte, src, dst string, payload []byte) []byte {
	h := []byte{0x60, 0, 0, 0, 0, 0, proto, 64}
	binary.BigEndian.PutUint16(h[4:], uint16(len(payload)))
	return slices.Concat(h, []byte(src), []byte(dst), payload)
}

func transport(proto byte, ports [2]uint16) []byte {
	b := make([]byte, 8)
	switch proto {
	case 6:
		b = make([]byte, 20)
		b[12], b[13] = 0x50, 2
	case 17:
		b[5] = 8
	case 132:
		b = make([]byte, 12)
	}
	binary.BigEndian.PutUint16(b, ports[0])
	binary.BigEndian.PutUint16(b[2:], ports[1])
	return b
}

func pcap(frames [][]byte) []byte {
	var b bytes.Buffer
	le := func(v uint32) { _ = binary.Write(&b, binary.LittleEndian, v) }
	b.WriteString("\xd4\xc3\xb2\xa1\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x04\x00\x01\x00\x00\x00")
	for i, f := range frames {
		le(1_760_000_000)
		le(uint32(i))
		le(uint32(len(f)))
		le(uint32(len(f)))
		b.Write(f)
	}
	return b.Bytes()
}

func FuzzFilter(f *testing.F) {
	for _, tc := range translated {
		f.Add(tc.expr)
	}
	f.Fuzz(func(t *testing.T, expr string) {
		got, ok := display.Filter(expr)
		if ok != (got != "") {
			t.Errorf("%q, %v", got, ok)
		}
		if ok && strings.ContainsAny(got, "\"'`&|\n\x00") {
			t.Errorf("%q", got)
		}
	})
}
