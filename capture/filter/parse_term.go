package filter

// term reads a primitive that starts with a keyword, or a comparison.
func (p *parser) term() (part, error) {
	switch {
	case p.tok.kind == tProto:
		name := p.tok
		if err := p.advance(); err != nil {
			return part{}, err
		}
		return p.afterProto(name)
	case p.tok.kind == tDir || p.tok.kind == tType:
		return p.qualified(pDefault, p.tok.pos)
	case p.isOp("-") || p.isWord("len"):
		a, err := p.arithmetic(nil, weakest)
		if err != nil {
			return part{}, err
		}
		return p.relation(a)
	case p.tok.kind == tWord:
		return p.special(pDefault)
	}
	return part{}, p.unexpected("")
}

// afterProto reads on after a protocol's name.
func (p *parser) afterProto(name token) (part, error) {
	of := proto(name.val)
	switch {
	case p.isOp("["):
		a, err := p.index(name)
		if err != nil {
			return part{}, err
		}
		if a, err = p.arithmetic(a, weakest); err != nil {
			return part{}, err
		}
		return p.relation(a)
	case p.tok.kind == tDir || p.tok.kind == tType:
		return p.qualified(of, name.pos)
	case p.isWord("broadcast"), p.isWord("multicast"), p.isWord("type"), p.isWord("subtype"), p.isWord("dir"):
		return p.special(of)
	}
	return part{x: &protocol{of, name.pos}, q: noQualifiers}, nil
}

// qualified reads direction and type, and the identifier that they are for.
func (p *parser) qualified(of proto, pos int) (part, error) {
	q := qualifiers{proto: of, pos: pos}
	if p.tok.kind == tDir {
		q.dir = direction(p.tok.val)
		if err := p.advance(); err != nil {
			return part{}, err
		}
		if (q.dir == dSrc || q.dir == dDst) && p.isJoin() {
			other := dSrc + dDst - q.dir
			q.dir = dOr
			if p.isWord("and") {
				q.dir = dAnd
			}
			if err := p.advance(); err != nil {
				return part{}, err
			}
			if p.tok.kind != tDir || direction(p.tok.val) != other {
				return part{}, p.unexpected(other.String())
			}
			if err := p.advance(); err != nil {
				return part{}, err
			}
		}
	}
	if p.tok.kind == tType {
		q.typ = addrType(p.tok.val)
		if q.dir != dDefault && q.typ != aHost && q.typ != aNet && q.typ != aPort && q.typ != aPortRange {
			return part{}, p.unexpected("an identifier")
		}
		if err := p.advance(); err != nil {
			return part{}, err
		}
	}
	t, err := p.item(wantID, q)
	t.form = isTerm
	return t, err
}

// special reads a primitive with a form of its own.
func (p *parser) special(of proto) (part, error) {
	s := &special{word: p.tok.text, pos: p.tok.pos, p: of}
	t := part{x: s, q: noQualifiers}
	if link := foreignWords[s.word]; link != "" {
		return t, p.fail(s.pos, quoted(s.word)+" needs link type "+link)
	}
	if err := p.advance(); err != nil {
		return t, err
	}
	var err error
	switch s.word {
	case "broadcast", "multicast", "inbound", "outbound", "pppoed":
	case "less", "greater", "ifindex":
		s.arg, err = p.want("a number", tNum)
	case "vlan", "mpls", "pppoes", "geneve", "vxlan":
		if p.isOp("(") || p.tok.kind == tNum {
			var n part
			if p.isOp("(") {
				n, err = p.numberInBrackets()
			} else {
				n, err = p.numeral()
			}
			s.arg = n.num
		}
	case "byte":
		err = p.byteTest(s)
	case "llc":
		if p.tok.kind == tID || p.isWord("rulenum") {
			s.arg = p.tok
			err = p.advance()
		}
	case "type":
		s.arg, err = p.want("a frame type", tNum, tID)
		if err == nil && p.isWord("subtype") {
			if err = p.advance(); err == nil {
				s.arg2, err = p.want("a frame subtype", tNum, tID)
			}
		}
	case "subtype":
		s.arg, err = p.want("a frame subtype", tID)
	case "dir":
		s.arg, err = p.want("a direction", tNum, tID)
	default:
		err = p.fail(s.pos, "unexpected "+quoted(s.word))
	}
	return t, err
}

// byteTest reads the arguments of "byte 5 = 3".
func (p *parser) byteTest(s *special) (err error) {
	if s.arg, err = p.want("a number", tNum); err != nil {
		return err
	}
	switch s.op = p.tok.text; s.op {
	case "&", "|", "<", ">", "=":
	default:
		return p.unexpected("one of & | < > =")
	}
	if err = p.advance(); err != nil {
		return err
	}
	s.arg2, err = p.want("a number", tNum)
	return err
}

// want reads a token of one of some kinds.
func (p *parser) want(what string, kinds ...kind) (token, error) {
	t := p.tok
	for _, k := range kinds {
		if t.kind == k {
			return t, p.advance()
		}
	}
	return t, p.unexpected(what)
}

// relation reads on after the left side of a comparison.
func (p *parser) relation(l arith) (part, error) {
	if !p.isRelation() {
		return part{}, p.unexpected("a comparison")
	}
	r := &relation{op: p.tok.text, l: l, pos: p.tok.pos}
	if err := p.advance(); err != nil {
		return part{}, err
	}
	var err error
	r.r, err = p.arithmetic(nil, weakest)
	return part{x: r, q: noQualifiers}, err
}

// Operators bind the stronger the higher; those of the same strength from left
// to right. % and ^ are special: they are always taken at once, with all that
// follows as their right side ("a * b % c + d" is "a * (b % (c + d))").
const (
	weakest  = 1
	ofMinus  = 6
	greedy   = 7
	noStrong = 0
)

func strength(op string) int {
	switch op {
	case "|":
		return 1
	case "&":
		return 2
	case "<<", ">>":
		return 3
	case "+", "-":
		return 4
	case "*", "/":
		return 5
	case "%", "^":
		return greedy
	}
	return noStrong
}

// arithmetic reads a value whose operators are at least as strong as least. l,
// if not nil, is its first operand and was read already.
func (p *parser) arithmetic(l arith, least int) (arith, error) {
	if l == nil {
		var err error
		if l, err = p.operand(); err != nil {
			return nil, err
		}
	}
	for p.tok.kind == tOp {
		op, pos := p.tok.text, p.tok.pos
		s := strength(op)
		if s < least || s == noStrong {
			break
		}
		if err := p.enter(); err != nil {
			return nil, err
		}
		if err := p.advance(); err != nil {
			return nil, err
		}
		rightLeast := s + 1
		if s == greedy {
			rightLeast = weakest
		}
		r, err := p.arithmetic(nil, rightLeast)
		if err != nil {
			return nil, err
		}
		p.depth--
		l = &operation{op, l, r, pos}
	}
	return l, nil
}

// operand reads a value without operators, or with "-" before it.
func (p *parser) operand() (arith, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer func() { p.depth-- }()
	t := p.tok
	switch {
	case t.kind == tNum:
		return &number{t.val, t.pos}, p.advance()
	case p.isWord("len"):
		return &length{t.pos}, p.advance()
	case p.isOp("-"):
		if err := p.advance(); err != nil {
			return nil, err
		}
		x, err := p.arithmetic(nil, ofMinus)
		return &minus{x, t.pos}, err
	case p.isOp("("):
		if err := p.advance(); err != nil {
			return nil, err
		}
		a, err := p.arithmetic(nil, weakest)
		if err != nil {
			return nil, err
		}
		if !p.isOp(")") {
			return nil, p.unexpected("\")\"")
		}
		return a, p.advance()
	case t.kind == tProto:
		if err := p.advance(); err != nil {
			return nil, err
		}
		if !p.isOp("[") {
			return nil, p.unexpected("\"[\"")
		}
		return p.index(t)
	}
	return nil, p.unexpected("a value")
}

// index reads "[off:size]" after a protocol's name.
func (p *parser) index(name token) (arith, error) {
	ld := &load{p: proto(name.val), size: 1, pos: name.pos}
	if err := p.advance(); err != nil {
		return nil, err
	}
	var err error
	if ld.off, err = p.arithmetic(nil, weakest); err != nil {
		return nil, err
	}
	if p.isOp(":") {
		if err := p.advance(); err != nil {
			return nil, err
		}
		n, err := p.want("1, 2 or 4", tNum)
		if err != nil {
			return nil, err
		}
		ld.size = n.val
	}
	if !p.isOp("]") {
		return nil, p.unexpected("\"]\"")
	}
	return ld, p.advance()
}
