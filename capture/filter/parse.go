package filter

import "strings"

// maxNesting bounds brackets, "not" and "-" inside each other.
const maxNesting = 200

// parser reads an expression with one token of look-ahead.
//
// The language lets an identifier without qualifiers stand wherever the
// qualifiers before it apply ("port 80 or 443", "port (80 or 443)"), and opens
// conditions, identifiers and values with the same bracket. So there are three
// places, with what may stand there: a term (at the start), a term or an
// identifier (after "and" and "or"), an identifier (after qualifiers).
type parser struct {
	scan  scanner
	tok   token
	depth int
}

// place is where in the grammar the parser is.
type place uint8

const (
	wantTerm place = iota
	wantEither
	wantID
)

// form is what was read.
type form uint8

const (
	isTerm  form = iota // a complete condition
	isID                // a complete condition made of identifiers only
	isNum               // a number, which may be an identifier or a value
	isArith             // a value that is no mere number
)

// part is what was read and its form.
type part struct {
	form form
	x    expr       // of isTerm, isID
	a    arith      // of isNum, isArith
	num  token      // of isNum
	q    qualifiers // what an identifier after it inherits
}

// parse returns the tree of an expression; nil stands for the empty one.
func parse(text string) (expr, error) {
	p := &parser{scan: scanner{expr: text}}
	if err := p.advance(); err != nil {
		return nil, err
	}
	if p.tok.kind == tEOF {
		return nil, nil
	}
	x, _, err := p.terms(nil)
	if err != nil {
		return nil, err
	}
	if p.tok.kind != tEOF {
		return nil, p.unexpected("")
	}
	return x, nil
}

func (p *parser) advance() (err error) {
	p.tok, err = p.scan.next()
	return err
}

func (p *parser) fail(pos int, text string) error { return p.scan.fail(pos, text) }

// unexpected is the error for a token that can't stand here.
func (p *parser) unexpected(want string) error {
	text := "unexpected " + quoted(p.tok.text)
	if p.tok.kind == tEOF {
		text = "unexpected end"
	}
	if want != "" {
		text += ", want " + want
	}
	return p.fail(p.tok.pos, text)
}

func (p *parser) isOp(op string) bool  { return p.tok.kind == tOp && p.tok.text == op }
func (p *parser) isWord(w string) bool { return p.tok.kind == tWord && p.tok.text == w }
func (p *parser) isJoin() bool         { return p.isWord("and") || p.isWord("or") }
func (p *parser) isArithmetic() bool   { return p.tok.kind == tOp && strength(p.tok.text) > 0 }
func (p *parser) isRelation() bool {
	return p.tok.kind == tOp && strings.Contains(" > >= = < <= != ", " "+p.tok.text+" ")
}

func (p *parser) startsIdentifier() bool {
	switch p.tok.kind {
	case tID, tHID, tHID6, tEID, tAID:
		return true
	}
	return false
}

// enter counts one level of nesting; leave it with p.depth--.
func (p *parser) enter() error {
	if p.depth++; p.depth > maxNesting {
		return p.fail(p.tok.pos, "nested too deeply")
	}
	return nil
}

// terms reads terms joined by "and" and "or". If first is not nil it was read
// already. It returns the qualifiers of the last one.
func (p *parser) terms(first *part) (expr, qualifiers, error) {
	if first == nil {
		t, err := p.item(wantTerm, noQualifiers)
		if err != nil {
			return nil, noQualifiers, err
		}
		first = &t
	}
	c, q := &chain{first: first.x}, first.q
	for p.isJoin() {
		and := p.isWord("and")
		if err := p.advance(); err != nil {
			return nil, q, err
		}
		t, err := p.item(wantEither, q)
		if err != nil {
			return nil, q, err
		}
		c.rest = append(c.rest, link{and, t.x})
		q = t.q
	}
	return c.simple(), q, nil
}

func (c *chain) simple() expr {
	if len(c.rest) == 0 {
		return c.first
	}
	return c
}

// identifiers reads identifiers joined by "and" and "or"; the first was read
// already.
func (p *parser) identifiers(first expr, q qualifiers) (expr, error) {
	c := &chain{first: first}
	for p.isJoin() {
		and := p.isWord("and")
		if err := p.advance(); err != nil {
			return nil, err
		}
		t, err := p.item(wantID, q)
		if err != nil {
			return nil, err
		}
		c.rest = append(c.rest, link{and, t.x})
	}
	return c.simple(), nil
}

// item reads what may stand at a place, to its end: a term or an identifier. q
// are the qualifiers of an identifier.
func (p *parser) item(at place, q qualifiers) (part, error) {
	if err := p.enter(); err != nil {
		return part{}, err
	}
	defer func() { p.depth-- }()
	switch {
	case p.isOp("!"):
		if err := p.advance(); err != nil {
			return part{}, err
		}
		t, err := p.item(at, q)
		t.x = &negation{t.x}
		return t, err
	case p.isOp("("):
		t, err := p.bracket(at, q)
		if err != nil {
			return t, err
		}
		return p.complete(at, t, q)
	case p.tok.kind == tNum:
		t, err := p.numeral()
		if err != nil {
			return t, err
		}
		return p.complete(at, t, q)
	case p.startsIdentifier():
		if at == wantTerm {
			return part{}, p.unexpected("a keyword such as host or port before it")
		}
		return p.identifier(q)
	}
	if at == wantID {
		return part{}, p.unexpected("an identifier")
	}
	return p.term()
}

// complete makes a term or identifier of what was read first.
func (p *parser) complete(at place, t part, q qualifiers) (part, error) {
	if t.form == isNum && at == wantID || t.form == isNum && at == wantEither && !p.isRelation() && !p.isArithmetic() {
		return part{form: isID, x: &match{q: q, id: t.num}, q: q}, nil
	}
	if t.form == isNum || t.form == isArith {
		a, err := p.arithmetic(t.a, weakest)
		if err != nil {
			return t, err
		}
		return p.relation(a)
	}
	return t, nil
}

// bracket reads what is inside brackets, and the brackets.
func (p *parser) bracket(at place, q qualifiers) (t part, err error) {
	open := p.tok.pos
	if err := p.enter(); err != nil {
		return t, err
	}
	defer func() { p.depth-- }()
	if err := p.advance(); err != nil {
		return t, err
	}
	if t, err = p.inside(at, q); err != nil {
		return t, err
	}
	if !p.isOp(")") {
		if p.tok.kind == tEOF {
			return t, p.fail(open, "bracket is not closed")
		}
		return t, p.unexpected("")
	}
	return t, p.advance()
}

// inside reads what is inside brackets.
func (p *parser) inside(at place, q qualifiers) (t part, err error) {
	switch {
	case p.isOp("(") && at == wantID:
		t, err = p.numberInBrackets()
	case p.isOp("("):
		t, err = p.bracket(wantTerm, q)
	case p.tok.kind == tNum:
		t, err = p.numeral()
	case at != wantID && (p.isOp("-") || p.isWord("len")):
		return p.value(nil, q)
	case at != wantID && p.tok.kind == tProto:
		name := p.tok
		if err = p.advance(); err != nil {
			return t, err
		}
		if p.isOp("[") {
			a, err := p.index(name)
			if err != nil {
				return t, err
			}
			return p.value(a, q)
		}
		t, err = p.afterProto(name)
	default:
		t, err = p.item(at, q)
	}
	if err != nil {
		return t, err
	}
	switch {
	case t.form == isNum && p.isOp(")"):
		return t, nil
	case t.form == isNum && at != wantTerm && p.isJoin():
		t = part{form: isID, x: &match{q: q, id: t.num}, q: q}
	case t.form == isNum && at == wantID:
		return t, p.unexpected("")
	case t.form == isNum || t.form == isArith:
		return p.value(t.a, q)
	}
	if t.form == isID {
		t.x, err = p.identifiers(t.x, q)
		return t, err
	}
	return p.condition(t, q)
}

// condition reads on after the first term inside brackets.
func (p *parser) condition(first part, q qualifiers) (part, error) {
	x, _, err := p.terms(&first)
	return part{form: isTerm, x: x, q: q}, err
}

// value reads on after a (unless it is nil) inside brackets: a value, or the
// conditions that begin with it.
func (p *parser) value(a arith, q qualifiers) (part, error) {
	a, err := p.arithmetic(a, weakest)
	if err != nil {
		return part{}, err
	}
	if p.isOp(")") {
		return part{form: isArith, a: a}, nil
	}
	t, err := p.relation(a)
	if err != nil {
		return t, err
	}
	return p.condition(t, q)
}

// numberInBrackets reads "(N)" where only identifiers may stand.
func (p *parser) numberInBrackets() (t part, err error) {
	if err = p.enter(); err != nil {
		return t, err
	}
	defer func() { p.depth-- }()
	if err = p.advance(); err != nil {
		return t, err
	}
	switch {
	case p.isOp("("):
		t, err = p.numberInBrackets()
	case p.tok.kind == tNum:
		t, err = p.numeral()
	default:
		err = p.unexpected("a number")
	}
	if err != nil {
		return t, err
	}
	if !p.isOp(")") {
		return t, p.unexpected("\")\"")
	}
	return t, p.advance()
}

func (p *parser) numeral() (part, error) {
	t := part{form: isNum, num: p.tok, a: &number{p.tok.val, p.tok.pos}}
	return t, p.advance()
}

// identifier reads one identifier.
func (p *parser) identifier(q qualifiers) (part, error) {
	m := &match{q: q, id: p.tok}
	t := part{form: isID, x: m, q: q}
	if err := p.advance(); err != nil {
		return t, err
	}
	var want kind
	switch {
	case (m.id.kind == tHID || m.id.kind == tHID6) && p.isOp("/"):
		want = tNum
	case m.id.kind == tHID && p.isWord("mask"):
		want = tHID
	default:
		return t, nil
	}
	if err := p.advance(); err != nil {
		return t, err
	}
	if p.tok.kind != want {
		return t, p.unexpected("a mask")
	}
	m.mask = p.tok
	return t, p.advance()
}
