package display

import (
	"slices"
	"strings"
)

// maxNesting bounds brackets and "not" inside each other.
const maxNesting = 50

// parser reads the part of the language that can be translated.
type parser struct {
	words  []string
	depth  int
	failed bool
}

// qualifiers say what an identifier is. One that stands alone behind "and" or
// "or" has those of the one before ("port 80 or 443").
type qualifiers struct{ proto, dir, typ string }

func (p *parser) peek() string {
	if len(p.words) == 0 {
		return ""
	}
	return p.words[0]
}

func (p *parser) next() string {
	word := p.peek()
	if word != "" {
		p.words = p.words[1:]
	}
	return word
}

// take takes the next word if it is one of these.
func (p *parser) take(words ...string) string {
	if word := p.peek(); word != "" && slices.Contains(words, word) {
		return p.next()
	}
	return ""
}

func (p *parser) fail() *node {
	p.failed = true
	p.words = nil
	return &node{}
}

// condition reads conditions up to a closing bracket or the end: "and" and "or"
// bind alike, from left to right. q are the qualifiers of what stands before.
func (p *parser) condition(q *qualifiers) *node {
	x, q := p.item(q)
	for {
		op := p.take("and", "or")
		if op == "" || p.failed {
			return x
		}
		var y *node
		y, q = p.item(q)
		x = join(op, x, y)
	}
}

// item reads one condition and returns the qualifiers that hold behind it.
func (p *parser) item(q *qualifiers) (*node, *qualifiers) {
	if p.depth++; p.depth > maxNesting {
		return p.fail(), nil
	}
	defer func() { p.depth-- }()
	switch word := p.next(); word {
	case "not":
		x, q := p.item(q)
		return &node{op: "not", of: []*node{x}}, q
	case "(":
		x := p.condition(q)
		if p.take(")") == "" {
			return p.fail(), nil
		}
		return x, q
	case "vlan":
		return p.vlan(), nil
	case "less", "greater":
		return p.length(word), nil
	case "ether", "ip", "ip6", "arp", "tcp", "udp", "sctp", "icmp", "icmp6":
		switch p.peek() {
		case "", ")", "and", "or":
			return protocol(p, word), nil
		}
		return p.qualified(qualifiers{proto: word})
	case "src", "dst", "host", "net", "port", "portrange":
		p.words = append([]string{word}, p.words...)
		return p.qualified(qualifiers{})
	case "", ")", "and", "or":
		return p.fail(), nil
	default:
		if q == nil {
			return p.fail(), nil
		}
		return p.identifier(word, *q), q
	}
}

// qualified reads direction and type, and what they are for.
func (p *parser) qualified(q qualifiers) (*node, *qualifiers) {
	if q.dir = p.take("src", "dst"); q.dir != "" {
		if op := p.peek(); (op == "or" || op == "and") && len(p.words) > 1 && (p.words[1] == "src" || p.words[1] == "dst") {
			if p.words[1] == q.dir {
				return p.fail(), nil
			}
			p.words = p.words[2:]
			q.dir = op
		}
	}
	if q.typ = p.take("host", "net", "port", "portrange"); q.typ == "" {
		q.typ = "host"
	}
	if p.take("(") != "" { // "port (80 or 443)"
		if word := p.peek(); word == "(" || word == "not" {
			return p.fail(), nil
		}
		x := p.condition(&q)
		if p.take(")") == "" {
			return p.fail(), nil
		}
		return x, &q
	}
	return p.identifier(p.next(), q), &q
}

// identifier translates one; "mask" may follow it.
func (p *parser) identifier(word string, q qualifiers) *node {
	if word == "" || strings.ContainsAny(word, "()") {
		return p.fail()
	}
	var x *node
	var ok bool
	switch {
	case q.proto == "ether":
		x, ok = mac(word, q)
	case q.typ == "port" || q.typ == "portrange":
		x, ok = ports(word, q)
	case p.take("mask") != "":
		x, ok = masked(word, p.next(), q)
	default:
		x, ok = host(word, q)
	}
	if !ok {
		return p.fail()
	}
	return x
}
