package display

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// names are those of protocols, where the two languages differ.
var names = map[string]string{"ip6": "ipv6", "icmp6": "icmpv6"}

func protocol(p *parser, word string) *node {
	if word == "ether" {
		return p.fail()
	}
	name := word
	if other, ok := names[word]; ok {
		name = other
	}
	return &node{text: name, isIP: word != "arp"}
}

// number reads a decimal one.
func number(word string, most uint64) (uint64, bool) {
	if len(word) > 1 && word[0] == '0' {
		return 0, false // octal, or hexadecimal
	}
	n, err := strconv.ParseUint(word, 10, 32)
	return n, err == nil && n <= most
}

func (p *parser) vlan() *node {
	x := &node{text: "vlan or ieee8021ad", isVLAN: true, brackets: true}
	switch p.peek() {
	case "", ")", "and", "or":
		return x
	}
	id, ok := number(p.next(), 4095)
	if !ok {
		return p.fail()
	}
	x.text = fmt.Sprintf("vlan.id == %d or ieee8021ad.id == %d", id, id)
	return x
}

func (p *parser) length(word string) *node {
	n, ok := number(p.next(), 1<<32-1)
	if !ok {
		return p.fail()
	}
	op := "<="
	if word == "greater" {
		op = ">="
	}
	return &node{text: fmt.Sprintf("frame.len %s %d", op, n)}
}

// either says a condition on one end of a packet for the ends that dir means;
// both is the condition that holds for any of them, where there is one.
func either(dir, src, dst, both string) []string {
	switch {
	case dir == "src":
		return []string{src}
	case dir == "dst":
		return []string{dst}
	case dir == "and":
		return []string{src + " and " + dst}
	case both != "":
		return []string{both}
	default:
		return []string{src, dst}
	}
}

// oneOf is a condition of several, of which one must hold.
func oneOf(dir string, all []string) (text string, brackets bool) {
	if dir == "and" && len(all) > 1 {
		for i := range all {
			all[i] = "(" + all[i] + ")"
		}
	}
	return strings.Join(all, " or "), len(all) > 1 || dir == "and"
}

func mac(word string, q qualifiers) (*node, bool) {
	a, err := net.ParseMAC(word)
	if err != nil || len(a) != 6 || q.typ != "host" {
		return nil, false
	}
	text, brackets := oneOf(q.dir, either(q.dir, "eth.src == "+a.String(), "eth.dst == "+a.String(), "eth.addr == "+a.String()))
	return &node{text: text, brackets: brackets}, true
}

// host translates an address, or a network with its length.
func host(word string, q qualifiers) (*node, bool) {
	address, length, isNet := strings.Cut(word, "/")
	if isNet && q.typ != "net" {
		return nil, false
	}
	if strings.Contains(address, ":") {
		return host6(address, length, q)
	}
	a, bits, ok := dotted(address)
	if q.typ == "host" && !strings.Contains(address, ".") {
		return nil, false // a number, or a name
	}
	if isNet {
		n, fine := number(length, 32)
		bits, ok = int(n), ok && fine
	}
	if !ok || a.IsUnspecified() && bits < 32 && !isNet {
		return nil, false
	}
	return network(netip.PrefixFrom(a, bits), q)
}

// masked translates a network with its mask.
func masked(word, mask string, q qualifiers) (*node, bool) {
	a, _, ok := dotted(word)
	m, _, fine := dotted(mask)
	if !ok || !fine || q.typ != "net" {
		return nil, false
	}
	octets := m.As4()
	bits, size := net.IPMask(octets[:]).Size()
	return network(netip.PrefixFrom(a, bits), q, size == 32)
}

// dotted reads one to four octets; bits is how many there are.
func dotted(word string) (a netip.Addr, bits int, ok bool) {
	parts := strings.Split(word, ".")
	var octets [4]byte
	for i, part := range parts {
		n, fine := number(part, 255)
		if !fine || i > 3 {
			return a, 0, false
		}
		octets[i] = byte(n)
	}
	return netip.AddrFrom4(octets), 8 * len(parts), true
}

// network translates an IPv4 network of so many bits.
func network(n netip.Prefix, q qualifiers, fine ...bool) (*node, bool) {
	if len(fine) > 0 && !fine[0] || !n.IsValid() || n.Masked() != n {
		return nil, false
	}
	is := " == " + n.String()
	if n.Bits() == 32 {
		is = " == " + n.Addr().String()
	}
	ip := either(q.dir, "ip.src"+is, "ip.dst"+is, "ip.addr"+is)
	arp := either(q.dir, "arp.src.proto_ipv4"+is, "arp.dst.proto_ipv4"+is, "")
	x := &node{isIP: q.proto == "ip"}
	switch q.proto {
	case "ip":
		x.text, x.brackets = oneOf(q.dir, ip)
	case "arp":
		x.text, x.brackets = oneOf(q.dir, arp)
	case "":
		x.text, x.brackets = oneOf(q.dir, append(ip[:len(ip):len(ip)], arp...))
		if x.inIP = ip[0]; q.dir == "and" {
			x.inIP = "(" + x.inIP + ")"
		}
	default:
		return nil, false
	}
	return x, true
}

func host6(address, length string, q qualifiers) (*node, bool) {
	a, err := netip.ParseAddr(address)
	if err != nil || a.Is4In6() || q.proto != "" && q.proto != "ip6" {
		return nil, false
	}
	is := " == " + a.String()
	if length != "" {
		n, ok := number(length, 128)
		if !ok || netip.PrefixFrom(a, int(n)).Masked().Addr() != a {
			return nil, false
		}
		is += "/" + length
	}
	text, brackets := oneOf(q.dir, either(q.dir, "ipv6.src"+is, "ipv6.dst"+is, "ipv6.addr"+is))
	return &node{text: text, brackets: brackets, isIP: true}, true
}

// ports translates a port, or a range of them.
func ports(word string, q qualifiers) (*node, bool) {
	protocols := []string{"tcp", "udp", "sctp"}
	switch q.proto {
	case "":
	case "tcp", "udp", "sctp":
		protocols = []string{q.proto}
	default:
		return nil, false
	}
	first, last, isRange := strings.Cut(word, "-")
	if isRange != (q.typ == "portrange") {
		return nil, false
	}
	lo, ok := number(first, 65535)
	hi := lo
	if isRange && ok {
		hi, ok = number(last, 65535)
	}
	if !ok {
		return nil, false
	}
	lo, hi = min(lo, hi), max(lo, hi)
	var all []string
	for _, p := range protocols {
		is := func(field string) string { return fmt.Sprintf("%s.%s == %d", p, field, lo) }
		both := is("port")
		if isRange {
			is = func(field string) string {
				return fmt.Sprintf("(%s.%s >= %d and %s.%s <= %d)", p, field, lo, p, field, hi)
			}
			both = ""
		}
		all = append(all, either(q.dir, is("srcport"), is("dstport"), both)...)
	}
	text, brackets := oneOf(q.dir, all)
	return &node{text: text, brackets: brackets, isIP: true}, true
}
