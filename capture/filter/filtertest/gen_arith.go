package filtertest

import "fmt"

func (g *Gen) relop() string {
	return one(g.r, "=", "=", "==", "!=", ">", "<", ">=", "<=")
}

// relation compares two arithmetic expressions. Half of them are what people
// write; the others are anything.
func (g *Gen) relation() string {
	if chance(g.r, 45) {
		return g.usual()
	}
	left := g.arith(g.r.IntN(4))
	if chance(g.r, 70) {
		return left + " " + g.relop() + " " + g.constant()
	}
	return left + one(g.r, " ", "") + g.relop() + one(g.r, " ", "") + g.arith(g.r.IntN(3))
}

// usual are relations in common use.
func (g *Gen) usual() string {
	switch g.r.IntN(14) {
	case 0:
		return "tcp[tcpflags] & " + one(g.r, "tcp-syn", "(tcp-syn|tcp-fin)", "(tcp-rst | tcp-ack)", "0x12") + one(g.r, " != 0", " == 0", " = tcp-syn")
	case 1:
		return "tcp[tcpflags] == " + one(g.r, "tcp-syn", "tcp-ack", "tcp-fin", "tcp-push", "tcp-urg", "tcp-ece", "tcp-cwr")
	case 2:
		return "ip[0] & 0xf " + g.relop() + " 5"
	case 3:
		return "ip[6:2] & " + one(g.r, "0x1fff", "0x2000", "0x4000") + " " + g.relop() + " 0"
	case 4:
		return "icmp[icmptype] " + g.relop() + " " + one(g.r, icmpWords...)
	case 5:
		return "icmp6[" + one(g.r, "icmp6type", "icmp6code", "0") + "] " + g.relop() + " " + one(g.r, icmp6Words...)
	case 6:
		return "ether[0] & 1 " + g.relop() + " 0"
	case 7:
		return "(ip[2:2] - ((ip[0]&0xf)<<2)) - ((tcp[12]&0xf0)>>2) " + g.relop() + " 0"
	case 8:
		return "tcp[((tcp[12] & 0xf0) >> 2):4] = " + one(g.r, "0x47455420", "0x504f5354")
	case 9:
		return "ip[8] " + g.relop() + " " + g.num(0, 1, 5, 64, 255)
	case 10:
		return "ip6[6] = " + g.num(ipProtos...)
	case 11:
		return "arp[6:2] " + g.relop() + " " + g.num(1, 2, 3)
	case 12:
		return fmt.Sprintf("byte %s %s %s", g.num(0, 12, 14, 23, 40), one(g.r, "=", "<", ">", "&", "|"), g.num(0, 1, 6, 8, 255))
	default:
		return one(g.r, "udp", "tcp", "sctp") + one(g.r, "[0:2]", "[2:2]") + " " + g.relop() + " " + g.num(ports...)
	}
}

var icmpWords = []string{
	"icmp-echoreply", "icmp-unreach", "icmp-sourcequench", "icmp-redirect", "icmp-echo", "icmp-routeradvert",
	"icmp-routersolicit", "icmp-timxceed", "icmp-paramprob", "icmp-tstamp", "icmp-tstampreply", "icmp-ireq",
	"icmp-ireqreply", "icmp-maskreq", "icmp-maskreply", "icmpcode",
}

var icmp6Words = []string{
	"icmp6-destinationunreach", "icmp6-packettoobig", "icmp6-timeexceeded", "icmp6-parameterproblem", "icmp6-echo",
	"icmp6-echoreply", "icmp6-multicastlistenerquery", "icmp6-multicastlistenerreportv1",
	"icmp6-multicastlistenerdone", "icmp6-routersolicit", "icmp6-routeradvert", "icmp6-neighborsolicit",
	"icmp6-neighboradvert", "icmp6-redirect", "icmp6-routerrenum", "icmp6-nodeinformationquery",
	"icmp6-nodeinformationresponse", "icmp6-ineighbordiscoverysolicit", "icmp6-ineighbordiscoveryadvert",
	"icmp6-multicastlistenerreportv2", "icmp6-homeagentdiscoveryrequest", "icmp6-homeagentdiscoveryreply",
	"icmp6-mobileprefixsolicit", "icmp6-mobileprefixadvert", "icmp6-certpathsolicit", "icmp6-certpathadvert",
	"icmp6-multicastrouteradvert", "icmp6-multicastroutersolicit", "icmp6-multicastrouterterm",
}

func (g *Gen) constant() string {
	return g.num(0, 0, 1, 2, 3, 5, 6, 8, 15, 17, 45, 64, 80, 128, 255, 256, 0x800, 0x806, 0xffff, 1500,
		0x7fffffff, 0x80000000, 0xffffffff)
}

// arith is an arithmetic expression that isn't a number alone, most of the time.
func (g *Gen) arith(depth int) string {
	if depth <= 0 {
		switch n := g.r.IntN(100); {
		case n < 12:
			return one(g.r, "len", "length")
		case n < 18:
			return g.constant()
		default:
			return g.access(0)
		}
	}
	switch n := g.r.IntN(100); {
	case n < 5:
		return "-" + one(g.r, "", " ") + g.arith(depth-1)
	case n < 20:
		return "(" + g.arith(depth-1) + ")"
	case n < 30:
		return g.access(depth - 1)
	case n < 70:
		op := one(g.r, "+", "-", "&", "&", "|", "^", "*", "<<", ">>", "/", "%")
		k := g.num(0, 1, 2, 3, 4, 7, 8, 15, 16, 31, 255, 0xf0, 0x1fff)
		if op == "<<" || op == ">>" {
			k = g.num(0, 1, 2, 4, 8, 16, 31)
		}
		if chance(g.r, 8) {
			return k + " " + op + " " + g.arith(depth-1)
		}
		return g.arith(depth-1) + one(g.r, " ", "") + op + one(g.r, " ", "") + k
	default:
		return g.arith(depth-1) + " " + one(g.r, "+", "-", "&", "|", "^", "*", "<<", ">>", "/", "%") + " " +
			g.arith(g.r.IntN(depth))
	}
}

// access loads from a packet.
func (g *Gen) access(depth int) string {
	head := one(g.r, "ip", "ip", "ip", "tcp", "tcp", "udp", "ip6", "ip6", "ether", "ether", "link", "icmp", "icmp6", "arp",
		"rarp", "sctp", "igmp", "igrp", "pim", "vrrp", "carp", "ah", "esp", "atalk", "decnet", "lat", "moprc", "mopdl",
		"sca", "iso", "stp", "ipx")
	if g.foreign(head) && chance(g.r, 90) {
		head = one(g.r, "ip", "tcp", "udp", "ip6", "icmp", "sctp")
	}
	switch {
	case g.link == LinkRadiotap && chance(g.r, 15):
		head = one(g.r, "radio", "wlan")
	case (g.link == Link80211 || g.link == LinkRadiotap) && chance(g.r, 20):
		head = "wlan"
	case chance(g.r, 1):
		head = one(g.r, "radio", "wlan", "ppp", "netbeui", "clnp", "isis", "l1")
	}
	at := g.num(0, 1, 2, 4, 6, 8, 9, 12, 13, 16, 20, 40)
	if chance(g.r, 15) {
		at = g.arith(depth)
	}
	return head + "[" + at + one(g.r, "", "", ":1", ":2", ":2", ":4", ":4") + "]"
}
