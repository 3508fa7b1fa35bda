package filtertest

import (
	"regexp"
	"strings"
)

// damage removes, doubles or swaps words: what libpcap refuses has to be
// refused. Words that would become names of hosts are left alone: nobody is
// asked for them.
func (g *Gen) damage(s string) string {
	words := strings.Fields(s)
	for _, w := range words {
		if strings.ContainsAny(w, `\`) || names[w] || strings.Contains(w, "-") {
			return s
		}
	}
	if chance(g.r, 50) {
		return g.scribble(s)
	}
	i, j := g.r.IntN(len(words)), g.r.IntN(len(words))
	switch g.r.IntN(4) {
	case 0:
		words[i], words[j] = words[j], words[i]
	case 1:
		words = append(words[:i:i], words[i+1:]...)
	case 2:
		words = append(words[:i+1:i+1], words[i:]...)
	default:
		words[i] = one(g.r, "(", ")", "and", "or", "not", "host", "tcp", "[", "]", "1", "&", "=", "=>", "::", "#", "/",
			"08", "4294967296", "0x100000000", "1.2.3", "1.2.3.4.", "::1/129", "1:2:3", "::1::", "300.1.1.1", "1-2-3-4-5-6",
			"\\", "\"", "'", "{", "-", "--1", "<>", "!=!", "&&&", "net", "port", "src", "proto", "vlan", "len", "é", "$", "_")
	}
	return strings.Join(words, " ")
}

// names are the words of an expression that a damaged one could turn into names
// of hosts.
var names = func() map[string]bool {
	m := map[string]bool{"gre": true, "ospf": true, "localhost": true, "loopback": true, "default": true}
	for _, w := range []string{
		"http", "domain", "https", "ssh", "ntp", "snmp", "telnet", "i", "s", "u", "rr", "rej", "ui",
		"ua", "disc", "dm", "sabme", "test", "xid", "frmr", "mgt", "ctl", "data", "management", "control", "nods",
		"tods", "fromds", "dstods", "eth0", "match", "pass",
	} {
		m[w] = true
	}
	for _, w := range subtypes {
		m[w] = true
	}
	return m
}()

// scribble changes single characters.
func (g *Gen) scribble(s string) string {
	const some = "()[]&|=!<>+-*/%^:.,0123456789afxX \t\"\\#$_~;'{}"
	b := []byte(s)
	for range 1 + g.r.IntN(3) {
		i, c := g.r.IntN(len(b)+1), some[g.r.IntN(len(some))]
		switch {
		case i == len(b) || chance(g.r, 40):
			b = append(b[:i:i], append([]byte{c}, b[i:]...)...)
		case chance(g.r, 50) && len(b) > 1:
			b = append(b[:i:i], b[i+1:]...)
		default:
			b[i] = c
		}
	}
	for _, w := range reName.FindAllString(string(b), -1) {
		if reLetter.MatchString(w) && !keywords[w] && !reHex.MatchString(w) || strings.ContainsAny(w, "-") {
			return s // it could be a host's name
		}
	}
	return string(b)
}

var (
	reName   = regexp.MustCompile(`[A-Za-z0-9\\][-_.A-Za-z0-9\\]*`)
	reLetter = regexp.MustCompile(`[A-Za-z\\]`)
	reHex    = regexp.MustCompile(`^0[xX][0-9A-Fa-f]+$`)
)

// keywords are the words that are no names.
var keywords = func() map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(`dst src link ether ppp slip fddi tr wlan arp rarp ip sctp tcp udp icmp igmp igrp pim
		vrrp carp radio ip6 icmp6 ah esp atalk aarp decnet lat sca moprc mopdl iso esis isis l1 l2 iih lsp snp csnp
		psnp clnp stp ipx netbeui host net mask port portrange proto protochain gateway type subtype direction dir
		addr1 addr2 addr3 addr4 ra ta less greater byte broadcast multicast and or not len length inbound outbound
		ifindex vlan mpls pppoed pppoes geneve llc tcpflags icmptype icmpcode icmp6type icmp6code`) {
		m[w] = true
	}
	return m
}()
