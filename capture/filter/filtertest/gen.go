package filtertest

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
)

// Gen makes random expressions of pcap-filter(7). Most of them compile on its
// link type. The same seed makes the same expressions.
type Gen struct {
	r    *rand.Rand
	link int
	// VXLAN is how many of 100 tunnels are VXLAN, which libpcap has since 1.11.
	VXLAN int
	// Damage is how many of 100 expressions are damaged: most of those are refused.
	Damage int
}

// NewGen returns a generator for a link type.
func NewGen(r *rand.Rand, linkType int) *Gen { return &Gen{r: r, link: linkType, VXLAN: 1, Damage: 5} }

// seeded is a source that gives the same numbers again for the same seed.
func seeded(a, b uint64) *rand.Rand {
	return rand.New(rand.NewPCG(a, b)) //nolint:gosec // a case has to come back by its seed
}

// one returns one of several.
func one[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

// chance is true in n of 100 cases.
func chance(r *rand.Rand, n int) bool { return r.IntN(100) < n }

type weighted struct {
	weight int
	make   func(g *Gen) string
}

func (g *Gen) pick(of []weighted) string {
	sum := 0
	for _, w := range of {
		sum += w.weight
	}
	n := g.r.IntN(sum)
	for _, w := range of {
		if n -= w.weight; n < 0 {
			return w.make(g)
		}
	}
	panic("not reached")
}

// Expr is a random expression.
func (g *Gen) Expr() string {
	depth := one(g.r, 0, 0, 1, 1, 1, 2, 2, 3, 4)
	if g.r.IntN(2000) == 0 {
		return one(g.r, "", " ", "\t")
	}
	s := g.expr(depth)
	if chance(g.r, 5) {
		s = strings.ReplaceAll(s, " ", one(g.r, "  ", "\t", "\n", " \r\n"))
	}
	if chance(g.r, g.Damage) {
		s = g.damage(s)
	}
	return s
}

func (g *Gen) expr(depth int) string {
	if depth == 0 {
		return g.term()
	}
	switch n := g.r.IntN(100); {
	case n < 30:
		return g.expr(depth-1) + g.and() + g.expr(g.r.IntN(depth))
	case n < 60:
		return g.expr(depth-1) + g.or() + g.expr(g.r.IntN(depth))
	case n < 72:
		return g.not() + "(" + g.expr(depth-1) + ")"
	case n < 80:
		return "(" + g.expr(depth-1) + ")"
	case n < 90 && g.link == LinkEthernet:
		return g.tunnel() + g.and() + g.expr(depth-1)
	default:
		return g.not() + g.expr(depth-1)
	}
}

func (g *Gen) and() string { return one(g.r, " and ", " and ", " && ", "&&") }
func (g *Gen) or() string  { return one(g.r, " or ", " or ", " || ", "||") }
func (g *Gen) not() string { return one(g.r, "not ", "not ", "!", "! ") }

func (g *Gen) term() string {
	s := g.pick(terms)
	// Some of what this link type doesn't have stays: libpcap's refusals are
	// judged too.
	if g.foreign(s) && chance(g.r, 85) {
		return g.pick(terms[:6])
	}
	if chance(g.r, 8) {
		s = g.not() + s
	}
	return s
}

// foreign says whether s is probably refused on the link type.
func (g *Gen) foreign(s string) bool {
	has := func(words ...string) bool {
		for _, w := range words {
			if strings.Contains(s, w) {
				return true
			}
		}
		return false
	}
	switch g.link {
	case LinkEthernet:
		return has("wlan", "radio", "ppp")
	case Link80211, LinkRadiotap:
		return has("protochain", "mpls", "pppoe", "bound", "ifindex") || g.link == Link80211 && has("radio")
	case LinkSLL, LinkSLL2:
		return reMAC.MatchString(s) || has("vlan", "mpls", "pppoe", "llc", "wlan", "radio")
	default:
		return reMAC.MatchString(s) || has("vlan", "mpls", "pppoe", "llc", "wlan", "radio", "iso", "isis", "stp", "atalk",
			"decnet", "lat", "mop", "sca", "ipx", "netbeui", "arp", "clnp", "snp", "iih", "lsp")
	}
}

// reMAC finds what needs a link layer with addresses.
var reMAC = regexp.MustCompile(`^(not |! ?)?((ether|link|wlan|fddi|tr) (host|src|dst|(broad|multi)cast)|(broad|multi)cast)`)

var terms = []weighted{
	{12, (*Gen).host},
	{8, (*Gen).net},
	{10, (*Gen).port},
	{4, (*Gen).portrange},
	{8, (*Gen).proto},
	{2, (*Gen).protochain},
	{12, (*Gen).abbrev},
	{5, (*Gen).cast},
	{5, (*Gen).length},
	{20, (*Gen).relation},
	{8, (*Gen).link80211OrEther},
	{8, (*Gen).tunnel},
	{4, (*Gen).llc},
	{2, (*Gen).socket},
	{1, (*Gen).bare},
	{2, (*Gen).anything},
}

// ids joins several values under one qualifier, as in "port 80 or 443".
func (g *Gen) ids(of func() string) string {
	if g.r.IntN(400) == 0 { // jumps of more than 255 instructions
		s := of()
		for range 20 + g.r.IntN(100) {
			s += g.or() + of()
		}
		return s
	}
	switch n := g.r.IntN(100); {
	case n < 78:
		return of()
	case n < 86:
		return of() + g.or() + of()
	case n < 90:
		return of() + g.and() + of()
	case n < 94:
		return "(" + of() + g.or() + of() + ")"
	case n < 97:
		return of() + g.and() + "(" + of() + g.or() + g.not() + of() + ")"
	default:
		return g.not() + of()
	}
}

func (g *Gen) dir() string {
	if chance(g.r, 40) {
		return ""
	}
	return one(g.r, "src ", "dst ", "src ", "dst ", "src or dst ", "src and dst ", "dst or src ", "dst and src ")
}

func (g *Gen) host() string {
	s := g.dir()
	if s == "" || chance(g.r, 60) {
		s += "host "
	}
	if chance(g.r, 35) {
		return one(g.r, "ip6 ", "", "") + s + g.ids(g.ip6)
	}
	if chance(g.r, 3) {
		return one(g.r, "ip ", "ip6 ", "", "arp ", "ether ", "gateway ") + s + "localhost"
	}
	return one(g.r, "ip ", "arp ", "rarp ", "", "", "") + s + g.ids(g.ip)
}

func (g *Gen) net() string {
	s := g.dir() + "net "
	if chance(g.r, 3) {
		return one(g.r, "", "ip ", "ip6 ") + s + one(g.r, "loopback", "link-local", "default")
	}
	if chance(g.r, 35) {
		return one(g.r, "ip6 ", "", "") + s + g.ids(func() string { return g.net6() })
	}
	return one(g.r, "ip ", "arp ", "rarp ", "", "", "") + s + g.ids(g.net4)
}

func (g *Gen) port() string {
	if chance(g.r, 4) {
		return one(g.r, "ip ", "ip6 ", "icmp ") + g.dir() + "port " + g.ids(g.portID)
	}
	return one(g.r, "tcp ", "udp ", "sctp ", "", "", "", "") + g.dir() + "port " + g.ids(g.portID)
}

func (g *Gen) portID() string {
	if chance(g.r, 12) {
		return one(g.r, "http", "domain", "https", "ssh", "ntp", "snmp", "telnet")
	}
	return g.num(ports...)
}

func (g *Gen) portrange() string {
	id := func() string {
		a, b := one(g.r, ports...), one(g.r, ports...)
		if chance(g.r, 6) {
			return fmt.Sprint(a)
		}
		return fmt.Sprintf("%d-%d", a, b)
	}
	return one(g.r, "tcp ", "udp ", "sctp ", "", "", "") + g.dir() + "portrange " + g.ids(id)
}

func (g *Gen) proto() string {
	switch g.r.IntN(6) {
	case 0:
		return one(g.r, "ether", "link") + " proto " + g.ids(func() string {
			return one(g.r, g.num(etherTypes...), g.num(etherTypes...), `\ip`, `\ip6`, `\arp`, `\rarp`, `\aarp`,
				`\atalk`, `\decnet`, `\sca`, `\lat`, `\mopdl`, `\moprc`, `\iso`, `\stp`, `\ipx`, `\netbeui`)
		})
	case 1:
		return one(g.r, "iso", "isis") + " proto " + g.ids(func() string {
			return one(g.r, g.num(0x81, 0x82, 0x83, 15, 16, 17, 18, 20, 24, 25, 26, 27), `\clnp`, `\esis`, `\isis`)
		})
	default:
		return one(g.r, "ip ", "ip6 ", "", "ip ", "ip6 ", "", "tcp ") + "proto " + g.ids(g.protoID)
	}
}

func (g *Gen) protoID() string {
	if chance(g.r, 30) {
		return one(g.r, `\tcp`, `\udp`, `\icmp`, `\igmp`, `\sctp`, `\ah`, `\esp`, `\pim`, "gre", "ospf")
	}
	return g.num(ipProtos...)
}

func (g *Gen) protochain() string {
	return one(g.r, "ip ", "ip6 ", "", "") + "protochain " + g.protoID()
}

func (g *Gen) abbrev() string {
	return one(g.r, "ip", "ip", "ip6", "ip6", "arp", "rarp", "tcp", "tcp", "udp", "udp", "icmp", "icmp6", "igmp",
		"igrp", "ah", "esp", "pim", "vrrp", "carp", "sctp", "stp", "decnet", "atalk", "aarp", "iso", "netbeui",
		"ipx", "lat", "mopdl", "moprc", "sca", "isis", "is-is", "esis", "es-is", "clnp", "l1", "l2", "iih", "lsp",
		"snp", "csnp", "psnp", "ether", "link", "radio", "ppp", "wlan")
}

func (g *Gen) cast() string {
	return one(g.r, "", "", "ether ", "link ", "ip ", "ip ", "ip6 ", "wlan ", "arp ") +
		one(g.r, "broadcast", "multicast", "multicast")
}

func (g *Gen) length() string {
	n := g.num(0, 14, 20, 34, 54, 60, 64, 100, 128, 576, 1500, 65535)
	return one(g.r, "less "+n, "greater "+n, "len "+g.relop()+" "+n, "length "+g.relop()+" "+n)
}

func (g *Gen) llc() string {
	return one(g.r, "llc", "llc i", "llc s", "llc u", "llc rr", "llc rnr", "llc rej", "llc ui", "llc ua",
		"llc disc", "llc dm", "llc sabme", "llc test", "llc xid", "llc frmr", "stp", "isis", "ipx", "netbeui")
}

// socket are the primitives of live sockets.
func (g *Gen) socket() string {
	return one(g.r, "inbound", "outbound", "ifindex "+g.num(0, 1, 2, 3, 9))
}

// bare is an address or number without a qualifier, or with one only.
func (g *Gen) bare() string {
	return g.dir() + one(g.r, g.ip(), g.ip6(), g.mac(), g.num(6, 17, 80), g.net4())
}

// anything joins qualifiers and values without asking whether they fit.
func (g *Gen) anything() string {
	s := one(g.r, "", "", g.abbrev()+" ") + g.dir()
	s += one(g.r, "", "host ", "net ", "port ", "portrange ", "proto ", "protochain ", "gateway ")
	return s + one(g.r, g.ip(), g.ip6(), g.mac(), g.num(ports...), g.net4(), g.net6(), "1-2", "$01", "(6)",
		"vci 3", "fisu", "opc 1", "on eth0", "rnr 1", "reason match", "action pass", "lane", "oamf4")
}

// tunnel is a primitive that moves the offsets of what comes after it.
func (g *Gen) tunnel() string {
	if chance(g.r, g.VXLAN) {
		return "vxlan" + g.optional(vnis...)
	}
	switch n := g.r.IntN(100); {
	case n < 40:
		return "vlan" + g.optional(vlans...)
	case n < 60:
		return "mpls" + g.optional(labels...)
	case n < 68:
		return "pppoed"
	case n < 84:
		return "pppoes" + g.optional(sessions...)
	default:
		return "geneve" + g.optional(vnis...)
	}
}

func (g *Gen) optional(of ...uint32) string {
	if chance(g.r, 50) {
		return ""
	}
	return " " + one(g.r, g.num(of...), g.num(of...), "("+g.num(of...)+")")
}
