// Package display says a capture filter in Wireshark's other language, that of
// display filters, so that a link to a session can show what was asked for.
package display

import (
	"slices"
	"strings"
)

// maxFilter bounds the text that is translated: it goes into a link.
const maxFilter = 1000

// Filter translates a pcap-filter(7) expression that compiles. ok is false where
// the display filter would decide otherwise, or be no help to read: what looks at
// bytes, broadcast, gateway, names of hosts and ports, and so on.
//
// The two pass the same packets where a frame holds one network header and one
// transport header, as most do. Wireshark besides looks into tunnels, behind VLAN
// tags, and at the packet that an ICMP error quotes; and a fragment has no ports
// for it before all the others are there.
func Filter(expr string) (filter string, ok bool) {
	if len(expr) > maxFilter {
		return "", false
	}
	p := &parser{words: split(expr)}
	if len(p.words) == 0 {
		return "", false
	}
	x := p.condition(nil)
	if p.failed || len(p.words) > 0 {
		return "", false
	}
	text := x.show(false)
	if !vlanFirst(x) || len(text) > 2*maxFilter {
		return "", false
	}
	return text, true
}

// node is a condition: an atom, or others joined.
type node struct {
	op       string // "and", "or", "not"; "" for an atom
	of       []*node
	text     string // of an atom, ready to stand between "and"
	inIP     string // the same where ARP can't be meant, one condition; "": text
	isIP     bool   // it passes no ARP
	isVLAN   bool
	brackets bool // text is several conditions
}

// show writes the condition. ip says that what stands beside it lets only IP
// packets through.
func (n *node) show(ip bool) string {
	switch n.op {
	case "":
		if ip && n.inIP != "" {
			return n.inIP
		}
		return n.text
	case "not":
		return "not " + n.of[0].inside(ip)
	}
	if n.op == "and" {
		ip = ip || slices.ContainsFunc(n.of, func(x *node) bool { return x.isIP })
	}
	all := make([]string, len(n.of))
	for i, x := range n.of {
		all[i] = x.inside(ip)
	}
	return strings.Join(all, " "+n.op+" ")
}

// inside is show for a part of another condition.
func (n *node) inside(ip bool) string {
	several := n.op == "and" || n.op == "or"
	if n.op == "" {
		several = n.brackets && (!ip || n.inIP == "")
	}
	if text := n.show(ip); !several {
		return text
	}
	return "(" + n.show(ip) + ")"
}

// join makes l op r; what is joined alike becomes one row.
func join(op string, l, r *node) *node {
	x := &node{op: op, of: []*node{l, r}, isIP: l.isIP && r.isIP || op == "and" && (l.isIP || r.isIP)}
	if l.op == op {
		x.of = append(slices.Clone(l.of), r)
	}
	return x
}

// vlanFirst says that there is at most one "vlan", in front of all else: from
// there on it shifts what the rest of a capture filter looks at.
func vlanFirst(x *node) bool {
	if x.op == "and" {
		return (x.of[0].isVLAN || !x.of[0].has()) && !slices.ContainsFunc(x.of[1:], (*node).has)
	}
	return x.isVLAN || !x.has()
}

// has says that there is a "vlan" in it.
func (n *node) has() bool { return n.isVLAN || slices.ContainsFunc(n.of, (*node).has) }

// split cuts an expression into words and punctuation.
func split(expr string) (words []string) {
	for expr != "" {
		n := strings.IndexAny(expr, " \t\r\n()!&|")
		switch {
		case n < 0:
			n = len(expr)
		case n > 0:
		case strings.HasPrefix(expr, "&&"), strings.HasPrefix(expr, "||"):
			n = 2
		default:
			n = 1
		}
		word := expr[:n]
		expr = expr[n:]
		switch word {
		case " ", "\t", "\r", "\n":
			continue
		case "&&":
			word = "and"
		case "||":
			word = "or"
		case "!":
			word = "not"
		}
		words = append(words, word)
	}
	return words
}
