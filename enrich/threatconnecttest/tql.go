package threatconnecttest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"capagent/internal/lazy"
)

// Bounds of a TQL query: nothing in it costs more than linear time.
const (
	maxTQL   = 1 << 20
	maxDepth = 50
)

// subject is what a query is asked of: a keyword's values, nil when it has none.
type subject func(keyword string) []string

type predicate func(subject) bool

// query is a parsed TQL expression.
type query struct {
	match predicate
	// active is set when the query speaks of indicatorActive itself; only active
	// indicators match otherwise.
	active bool
	// strings are all that it compares with, by keyword.
	strings map[string][]string
}

// keywordKinds are the keywords that can be asked for, by what they hold.
var keywordKinds = map[string]string{
	"typename": "string", "summary": "string", "value1": "string", "value2": "string", "value3": "string",
	"ownername": "string", "tag": "string", "indicatoractive": "bool",
	"id": "number", "owner": "number", "rating": "number", "confidence": "number", "threatassessscore": "number",
	"falsepositivecount": "number", "lastmodified": "date", "dateadded": "date",
}

// parseTQL reads the part of TQL that lookups need (contracts/threatconnect.md
// 3.2): =, !=, <, <=, >, >=, IN and NOT IN over the keywords above, AND, OR
// and parentheses. LIKE, CONTAINS, STARTSWITH, ENDSWITH and nested queries are
// refused, as is everything that is not escaped.
func parseTQL(text string) (*query, error) {
	if len(text) > maxTQL {
		return nil, fmt.Errorf("the query is longer than %d bytes", maxTQL)
	}
	p := &tqlParser{text: text, q: &query{strings: map[string][]string{}}}
	if err := p.next(); err != nil {
		return nil, err
	}
	match, err := p.either(0)
	if err == nil && p.tok.kind != 0 {
		err = p.unexpected("and, or, or the end")
	}
	if err != nil {
		return nil, err
	}
	p.q.match = match
	return p.q, nil
}

// token kinds: 0 is the end.
const (
	word   = 'w'
	str    = 's'
	number = 'n'
	symbol = 'y' // operators, parentheses, comma
)

type tqlToken struct {
	kind byte
	text string // of a string: without quotes and escapes
	at   int
}

type tqlParser struct {
	text string
	pos  int
	tok  tqlToken
	q    *query
}

var (
	tqlWord   = lazy.Regexp(`^[A-Za-z][A-Za-z0-9_]*`)
	tqlNumber = lazy.Regexp(`^-?[0-9]+(\.[0-9]+)?`)
)

func (p *tqlParser) unexpected(want string) error {
	if p.tok.kind == 0 {
		return fmt.Errorf("the query ends where %s is expected", want)
	}
	return fmt.Errorf("%q at character %d: expected %s", p.tok.text, p.tok.at, want)
}

// next reads one token.
func (p *tqlParser) next() error {
	for p.pos < len(p.text) && strings.IndexByte(" \t\r\n", p.text[p.pos]) >= 0 {
		p.pos++
	}
	p.tok = tqlToken{at: p.pos}
	if p.pos == len(p.text) {
		return nil
	}
	rest := p.text[p.pos:]
	switch c := rest[0]; {
	case c == '"' || c == '\'':
		return p.quoted(c)
	case strings.IndexByte("(),", c) >= 0:
		p.take(symbol, rest[:1])
	case strings.IndexByte("=!<>", c) >= 0:
		n := 1
		if len(rest) > 1 && rest[1] == '=' && c != '=' {
			n = 2
		}
		p.take(symbol, rest[:n])
	default:
		// Both expressions are anchored and linear.
		if w := tqlWord().FindString(rest); w != "" {
			p.take(word, w)
		} else if n := tqlNumber().FindString(rest); n != "" {
			p.take(number, n)
		} else {
			return fmt.Errorf("unexpected %q at character %d", rest[:1], p.pos)
		}
	}
	return nil
}

func (p *tqlParser) take(kind byte, text string) {
	p.tok.kind, p.tok.text = kind, text
	p.pos += len(text)
}

// quoted reads a string. The four characters that the documentation has escaped
// must be; a backslash before anything else is an error.
func (p *tqlParser) quoted(quote byte) error {
	var b strings.Builder
	for i := p.pos + 1; i < len(p.text); i++ {
		switch c := p.text[i]; c {
		case quote:
			p.tok.kind, p.tok.text = str, b.String()
			p.pos = i + 1
			return nil
		case '\\':
			i++
			if i == len(p.text) || strings.IndexByte("'\"`\\", p.text[i]) < 0 {
				return fmt.Errorf("a backslash at character %d that escapes nothing", i-1)
			}
			b.WriteByte(p.text[i])
		case '\'', '"', '`':
			return fmt.Errorf("%q at character %d is not escaped", string(c), i)
		default:
			b.WriteByte(c)
		}
	}
	return fmt.Errorf("the string at character %d does not end", p.pos)
}

// is says whether the token is that word or symbol.
func (p *tqlParser) is(text string) bool {
	return (p.tok.kind == word || p.tok.kind == symbol) && strings.EqualFold(p.tok.text, text)
}

func (p *tqlParser) either(depth int) (predicate, error) {
	var all []predicate
	for {
		one, err := p.both(depth)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
		if !p.is("or") {
			break
		}
		if err := p.next(); err != nil {
			return nil, err
		}
	}
	if len(all) == 1 {
		return all[0], nil
	}
	return func(s subject) bool {
		return slices.ContainsFunc(all, func(m predicate) bool { return m(s) })
	}, nil
}

func (p *tqlParser) both(depth int) (predicate, error) {
	var all []predicate
	for {
		one, err := p.term(depth)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
		if !p.is("and") {
			break
		}
		if err := p.next(); err != nil {
			return nil, err
		}
	}
	if len(all) == 1 {
		return all[0], nil
	}
	return func(s subject) bool {
		return !slices.ContainsFunc(all, func(m predicate) bool { return !m(s) })
	}, nil
}

func (p *tqlParser) term(depth int) (predicate, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("more than %d levels", maxDepth)
	}
	if !p.is("(") {
		return p.comparison()
	}
	if err := p.next(); err != nil {
		return nil, err
	}
	m, err := p.either(depth + 1)
	if err != nil {
		return nil, err
	}
	if !p.is(")") {
		return nil, p.unexpected("a closing parenthesis")
	}
	return m, p.next()
}

func (p *tqlParser) comparison() (predicate, error) {
	if p.tok.kind != word {
		return nil, p.unexpected("a keyword")
	}
	keyword := strings.ToLower(p.tok.text)
	kind := keywordKinds[keyword]
	if kind == "" {
		return nil, p.unexpected("a keyword that is known here")
	}
	if keyword == "indicatoractive" {
		p.q.active = true
	}
	if err := p.next(); err != nil {
		return nil, err
	}
	negate := p.is("not")
	if negate {
		if err := p.next(); err != nil {
			return nil, err
		}
	}
	op := strings.ToLower(p.tok.text)
	isIn := p.is("in")
	if !isIn && (negate || p.tok.kind != symbol || !slices.Contains([]string{"=", "!=", "<", "<=", ">", ">="}, op)) {
		return nil, p.unexpected("=, !=, <, <=, >, >=, in, or not in")
	}
	if err := p.next(); err != nil {
		return nil, err
	}
	if !isIn {
		value, err := p.literal(keyword, kind)
		if err != nil {
			return nil, err
		}
		return compare(keyword, kind, op, value)
	}
	values, err := p.list(keyword, kind)
	return func(s subject) bool {
		return slices.ContainsFunc(s(keyword), func(v string) bool { return values[v] }) != negate
	}, err
}

func (p *tqlParser) list(keyword, kind string) (map[string]bool, error) {
	values := map[string]bool{}
	if !p.is("(") {
		return nil, p.unexpected("an opening parenthesis")
	}
	for {
		if err := p.next(); err != nil {
			return nil, err
		}
		v, err := p.literal(keyword, kind)
		if err != nil {
			return nil, err
		}
		values[v] = true
		if p.is(")") {
			return values, p.next()
		}
		if !p.is(",") {
			return nil, p.unexpected("a comma or a closing parenthesis")
		}
	}
}

// literal reads a value that fits the keyword.
func (p *tqlParser) literal(keyword, kind string) (string, error) {
	text := p.tok.text
	switch {
	case kind == "string" && p.tok.kind == str:
		p.q.strings[keyword] = append(p.q.strings[keyword], text)
	case kind == "number" && p.tok.kind == number:
	case kind == "bool" && (p.is("true") || p.is("false")):
		text = strings.ToLower(text)
	case kind == "date" && p.tok.kind == str:
		if _, err := tqlDate(text); err != nil {
			return "", fmt.Errorf("%q at character %d: %w", text, p.tok.at, err)
		}
	default:
		return "", p.unexpected("a " + kind)
	}
	return text, p.next()
}

// tqlDate takes dates as TQL does: without milliseconds.
func tqlDate(text string) (time.Time, error) {
	if strings.Contains(text, ".") {
		return time.Time{}, fmt.Errorf("a date has no milliseconds")
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("expected a date")
}

func compare(keyword, kind, op, want string) (predicate, error) {
	order := strings.Compare
	switch kind {
	case "number":
		if _, err := strconv.ParseFloat(want, 64); err != nil {
			return nil, err
		}
		order = compareNumbers
	case "date":
		order = func(a, b string) int {
			x, _ := tqlDate(a)
			y, _ := tqlDate(b)
			return x.Compare(y)
		}
	default:
		if op != "=" && op != "!=" {
			return nil, fmt.Errorf("%s does not fit %s", op, keyword)
		}
	}
	fits := func(v string) bool {
		n := order(v, want)
		switch op {
		case "=", "!=":
			return n == 0
		case "<":
			return n < 0
		case "<=":
			return n <= 0
		case ">":
			return n > 0
		default:
			return n >= 0
		}
	}
	return func(s subject) bool { return slices.ContainsFunc(s(keyword), fits) != (op == "!=") }, nil
}

// compareNumbers keeps the digits of large ids, which a float64 would not.
func compareNumbers(a, b string) int {
	x, errX := strconv.ParseInt(a, 10, 64)
	y, errY := strconv.ParseInt(b, 10, 64)
	if errX == nil && errY == nil {
		switch {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	}
	f, _ := strconv.ParseFloat(a, 64)
	g, _ := strconv.ParseFloat(b, 64)
	switch {
	case f < g:
		return -1
	case f > g:
		return 1
	}
	return 0
}
