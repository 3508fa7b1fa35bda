package config

import (
	"bytes"
	"errors"
	"fmt"
	"sort"
	"strings"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// maxDepth bounds the parts of a key, so that a hostile file of nested inline
// tables costs no more than its length.
const maxDepth = 16

// segment is one part of a key with its place in the text. index counts the
// elements of a list of tables and is -1 elsewhere.
type segment struct {
	name  string
	index int
	pos   int
}

// item is one key = value, or a table's header when isHeader is set.
type item struct {
	path     []segment
	isHeader bool
	value    literal
	valuePos int
}

// document is a TOML text taken to pieces, with the place of each.
type document struct {
	file  string
	text  []byte
	lines []int // offset at which each line begins
	// The last place that was asked for, so that a file that is one long line
	// is not counted from its beginning for every key.
	last  struct{ line, pos, column int }
	items []item
	errs  Errors
	// counts holds the elements so far of each [[list]] by its path.
	counts map[string]int
}

// parse takes text to pieces. What is wrong with it as TOML is in errs; items
// hold everything before the first mistake of syntax.
func parse(file string, text []byte) *document {
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	// The parser finds offsets by capacity.
	d := &document{file: file, text: text[:len(text):len(text)], lines: []int{0}, counts: map[string]int{}}
	for i, c := range text {
		if c == '\n' {
			d.lines = append(d.lines, i+1)
		}
	}
	if bytes.HasPrefix(text, []byte{0xff, 0xfe}) || bytes.HasPrefix(text, []byte{0xfe, 0xff}) {
		d.fail(0, "", "expected UTF-8 text, found UTF-16; save the file as UTF-8")
		return d
	}
	if !utf8.Valid(text) {
		d.fail(firstInvalid(text), "", "expected UTF-8 text")
		return d
	}
	var p unstable.Parser
	p.Reset(d.text)
	var table []segment
	for p.NextExpression() {
		e := p.Expression()
		switch e.Kind {
		case unstable.Table, unstable.ArrayTable:
			table = d.resolve(nil, e.Key(), e.Kind == unstable.ArrayTable)
			d.add(item{path: table, isHeader: true})
		case unstable.KeyValue:
			d.keyValue(table, e)
		}
	}
	var perr *unstable.ParserError
	if err := p.Error(); errors.As(err, &perr) {
		d.fail(int(p.Range(perr.Highlight).Offset), "", "%s", inPlainWords(perr.Message))
		return d
	}
	d.validate()
	return d
}

func firstInvalid(text []byte) int {
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRune(text[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return len(text)
}

// resolve turns a key's parts into segments below base, choosing the newest
// element of each list on the way; grow begins a new one at the end.
func (d *document) resolve(base []segment, key unstable.Iterator, grow bool) []segment {
	path := append([]segment(nil), base...)
	for key.Next() {
		n := key.Node()
		path = append(path, segment{name: string(n.Data), index: -1, pos: int(n.Raw.Offset)})
		if len(path) > maxDepth {
			return path
		}
		if len(path) <= len(base) {
			continue
		}
		at := identity(path)
		if grow && key.IsLast() {
			d.counts[at]++
		}
		path[len(path)-1].index = d.counts[at] - 1
	}
	return path
}

// identity is a path as a map key; names are quoted, as they may hold anything.
func identity(path []segment) string {
	var b strings.Builder
	for _, s := range path {
		fmt.Fprintf(&b, "%q[%d].", s.name, s.index)
	}
	return b.String()
}

func (d *document) add(it item) bool {
	if len(it.path) > maxDepth {
		d.fail(it.path[maxDepth].pos, "", "nested too deeply; expected at most %d levels", maxDepth)
		return false
	}
	d.items = append(d.items, it)
	return true
}

// keyValue records one key = value; inline tables and lists of them become the
// keys that they hold.
func (d *document) keyValue(base []segment, e *unstable.Node) {
	path := d.resolve(base, e.Key(), false)
	if len(path) > maxDepth {
		d.add(item{path: path})
		return
	}
	d.valueAt(path, e.Value(), d.valueOffset(e))
}

func (d *document) valueAt(path []segment, v *unstable.Node, pos int) {
	switch {
	case v.Kind == unstable.InlineTable:
		if !d.add(item{path: path, isHeader: true}) {
			return
		}
		for it := v.Children(); it.Next(); {
			d.keyValue(path, it.Node())
		}
	case v.Kind == unstable.Array && ofTables(v):
		i := 0
		for it := v.Children(); it.Next(); i++ {
			element := append([]segment(nil), path...)
			element[len(element)-1].index = i
			d.valueAt(element, it.Node(), int(it.Node().Raw.Offset))
		}
	default:
		d.add(item{path: path, value: literalOf(v, 0), valuePos: pos})
	}
}

func ofTables(v *unstable.Node) bool {
	n := 0
	for it := v.Children(); it.Next(); n++ {
		if it.Node().Kind != unstable.InlineTable {
			return false
		}
	}
	return n > 0
}

// literalOf copies a value out of the parser. Lists of lists and tables among
// values have no use here, so their contents are left out.
func literalOf(v *unstable.Node, depth int) literal {
	l := literal{kind: v.Kind}
	switch v.Kind {
	case unstable.Array:
		for it := v.Children(); depth == 0 && it.Next(); {
			l.list = append(l.list, literalOf(it.Node(), depth+1))
		}
	case unstable.Integer:
		// Signs, underscores and prefixes are the parser's business; what
		// follows reads digits.
		l.text = strings.TrimPrefix(strings.ReplaceAll(string(v.Data), "_", ""), "+")
	default:
		l.text = string(v.Data)
	}
	return l
}

// valueOffset finds where the value of a key = value begins: the parser does
// not say for lists.
func (d *document) valueOffset(e *unstable.Node) int {
	end := 0
	for key := e.Key(); key.Next(); {
		end = int(key.Node().Raw.Offset + key.Node().Raw.Length)
	}
	rest := d.text[end:]
	after := bytes.IndexByte(rest, '=') + 1
	for after < len(rest) && (rest[after] == ' ' || rest[after] == '\t') {
		after++
	}
	return end + after
}

// validate lets go-toml read the whole text, which finds what single
// expressions can't show: names defined twice, dates that do not exist. Its
// message may quote the text and is not used.
func (d *document) validate() {
	var all map[string]any
	var derr *toml.DecodeError
	if err := toml.Unmarshal(d.text, &all); !errors.As(err, &derr) {
		return
	}
	line, column := derr.Position()
	pos := min(d.lines[line-1]+column-1, len(d.text))
	for _, word := range []string{"already", "should be a"} {
		if strings.Contains(derr.Error(), word) {
			d.fail(pos, "", "the key or table is defined a second time")
			return
		}
	}
	d.fail(pos, "", "expected a date that exists or a number that is in range")
}

// origin is the place of an offset. Columns count characters, from 1.
func (d *document) origin(pos int) Origin {
	line := sort.SearchInts(d.lines, pos+1)
	from, column := d.lines[line-1], 1
	if d.last.line == line && d.last.pos <= pos {
		from, column = d.last.pos, d.last.column
	}
	column += utf8.RuneCount(d.text[from:pos])
	d.last.line, d.last.pos, d.last.column = line, pos, column
	return Origin{Layer: FromFile, File: d.file, Line: line, Column: column}
}

func (d *document) fail(pos int, key, format string, args ...any) {
	d.errs = append(d.errs, &Error{Origin: d.origin(pos), Key: key, Err: fmt.Errorf(format, args...)})
}

// plainWords says what the parser's messages mean to the writer of a file. Only
// these texts are ever shown: the parser's own may quote a character.
var plainWords = []struct{ prefix, text string }{
	{"expected newline", "expected the end of the line; a string stands in quotes"},
	{"expected ']]'", "expected ]] after the name of the list"},
	{"expected ']' to", "expected ] after the name of the table"},
	{"expected ',' or ']'", "expected a comma or ] in the list"},
	{"expected ',' or '}'", "expected a comma or } in the inline table"},
	{"unexpected comma", "expected a key, found a comma"},
	{"array is incomplete", "expected ] at the end of the list"},
	{"inline table is incomplete", "expected } at the end of the inline table"},
	{"expected '='", "expected = and a value after the key"},
	{"expected key but", "expected a key"},
	{"invalid character at start of key", "expected a key"},
	{"expected value", "expected a value"},
	{"unexpected character", "expected a value; a string stands in quotes"},
	{"expected keyword", "expected a value; a string stands in quotes"},
	{"strings must be quoted", "expected a value; a string stands in quotes"},
	{"unterminated", "expected a closing quote"},
	{"multiline literal string not", "expected three closing quotes"},
	{"multiline basic string not", "expected three closing quotes"},
	{"too many quotes", "expected three closing quotes"},
	{"literal strings cannot have new", "expected a closing quote before the end of the line"},
	{"basic strings cannot have new", "expected a closing quote before the end of the line"},
	{"invalid escape", `expected an escape such as \\ or \"; a Windows path stands in 'single quotes'`},
	{"need a character", `expected an escape such as \\ or \"; a Windows path stands in 'single quotes'`},
	{"unicode escape", `expected a \u with four hexadecimal digits; a Windows path stands in 'single quotes'`},
	{"invalid hexadecimal", `expected a \u with four hexadecimal digits; a Windows path stands in 'single quotes'`},
	{"escape sequence", "expected an escape for a character that exists"},
	{"arrays and inline tables", "nested too deeply"},
	{"carriage returns", "expected a line feed after the carriage return"},
	{"control characters", "expected no control characters"},
	{"number must", "expected a number; a string stands in quotes"},
	{"expected number", "expected a number; a string stands in quotes"},
	{"expected digit", "expected a number; a string stands in quotes"},
	{"expected \"", "expected a number; a string stands in quotes"},
	{"sign is not", "expected a number; a string stands in quotes"},
	{"radix prefix", "expected a number; a string stands in quotes"},
	{"integers cannot", "expected a number without leading zeroes; a string stands in quotes"},
	{"decimal point", "expected a digit after the decimal point"},
	{"exponent", "expected a digit in the exponent"},
}

func inPlainWords(message string) string {
	for _, w := range plainWords {
		if strings.HasPrefix(message, w.prefix) {
			return w.text
		}
	}
	if strings.Contains(message, "control characters") {
		return "expected no control characters in the string"
	}
	return "expected a table, a key with a value, or a comment"
}
