package mail

import (
	"bytes"

	"capagent/enrich/indicator"
)

const (
	messageSize  = 6 << 10  // of a message and its digests, without addresses
	maxAddresses = 32 << 10 // bytes of all address fields
	maxField     = 1024     // of a Content- field
	maxDepth     = 8
	maxBoundary  = 100 // RFC 2046, 5.1.1 allows 70
)

// field is what a header field is of interest for.
type field uint8

const (
	none field = iota
	from
	to
	contentType
	disposition
	encoding
)

var fields = []struct {
	name string
	kind field
}{
	{"FROM", from},
	{"SENDER", from},
	{"REPLY-TO", from},
	{"RETURN-PATH", from},
	{"TO", to},
	{"CC", to},
	{"BCC", to},
	{"CONTENT-TYPE", contentType},
	{"CONTENT-DISPOSITION", disposition},
	{"CONTENT-TRANSFER-ENCODING", encoding},
}

// message follows the lines of one message: headers, and the parts of its body
// (RFC 5322, RFC 2045, RFC 2046). A nil message takes everything for nothing.
type message struct {
	set        *indicator.Set
	open       bool
	header     bool // in a header, of the message or of a part
	headerDone bool // the message's own is over
	headerAt   indicator.At

	// addr is the address fields of all headers: the kind of one, its text, 0.
	// They count when the message has ended.
	addr []byte

	field field // that is being read
	value [maxField]byte
	n     int

	part   part
	bounds [maxDepth]boundary
	depth  int
	body   body
}

type boundary struct {
	text [maxBoundary]byte
	n    int
}

// part is what its header says of it.
type part struct {
	kind     kind
	encoding transfer
	named    bool // it has a file name
	broken   bool // a gap was in its header
	boundary boundary
}

func newMessage(set *indicator.Set) *message {
	return &message{set: set, body: newBody()}
}

func (m *message) begin() {
	m.open, m.header, m.headerDone = true, true, false
	m.addr = m.addr[:0]
	m.field, m.depth, m.part = none, 0, part{}
	m.body.on = false
}

// line takes a line of the message, or a piece of a long one.
func (m *message) line(b []byte, first, last bool, at indicator.At) {
	if m == nil {
		return
	}
	text, eol := b, b[len(b):]
	if last {
		text = bytes.TrimSuffix(text, []byte("\n"))
		text = bytes.TrimSuffix(text, []byte("\r"))
		eol = b[len(text):]
	}
	switch {
	case first && last && m.depth > 0 && bytes.HasPrefix(text, []byte("--")) && m.delimiter(text, at):
	case m.header:
		m.headerLine(text, first, last, at)
	case m.body.on:
		m.body.line(text, eol, last)
	}
}

// delimiter ends a part if the line is a boundary of one of the multiparts around.
func (m *message) delimiter(text []byte, at indicator.At) bool {
	text = bytes.TrimRight(text[2:], " \t")
	for k := m.depth - 1; k >= 0; k-- {
		b := &m.bounds[k]
		rest, ok := bytes.CutPrefix(text, b.text[:b.n])
		last := string(rest) == "--"
		if !ok || len(rest) > 0 && !last {
			continue
		}
		m.partEnd(false, at)
		m.part = part{}
		m.depth, m.header = k+1, true
		if last {
			m.depth, m.header = k, false
		}
		return true
	}
	return false
}

// partEnd ends what is being read. The last line end belongs to the boundary,
// unless there is none.
func (m *message) partEnd(final bool, at indicator.At) {
	if m.header {
		m.fieldEnd()
	}
	if m.body.on {
		m.body.end(final, m.set, at)
	}
}

func (m *message) headerLine(text []byte, first, last bool, at indicator.At) {
	switch {
	case !first || len(text) > 0 && (text[0] == ' ' || text[0] == '\t'):
		m.add(text)
	case len(text) == 0 && last:
		m.fieldEnd()
		m.headerEnd(at)
	default:
		m.fieldEnd()
		name, value, _ := bytes.Cut(text, []byte(":"))
		name = bytes.TrimRight(name, " \t")
		for _, f := range fields {
			if fold(name, f.name) {
				m.field, m.n = f.kind, 0
				m.addrByte(byte(f.kind))
				m.add(value)
			}
		}
	}
}

// add keeps text of the field that is being read.
func (m *message) add(text []byte) {
	switch m.field {
	case none:
	case from, to:
		for _, c := range text {
			if c == 0 {
				c = ' '
			}
			if m.field != none {
				m.addrByte(c)
			}
		}
	default:
		n := copy(m.value[m.n:], text)
		if m.n += n; n < len(text) {
			m.set.Reached(LimitMIME)
		}
	}
}

// addrByte keeps a byte of an address field.
func (m *message) addrByte(c byte) {
	if m.field != from && m.field != to {
		return
	}
	if n := len(m.addr); n == cap(m.addr) {
		size := max(512, 2*n)
		if size > maxAddresses {
			m.set.Reached(LimitHeader)
			m.cutAddress()
			return
		}
		if !m.set.Take(size-n, LimitHeader) {
			m.cutAddress()
			return
		}
		m.addr = append(make([]byte, 0, size), m.addr...)
	}
	m.addr = append(m.addr, c)
}

// cutAddress leaves out the address that is not whole, and what follows it.
func (m *message) cutAddress() {
	if m.field == from || m.field == to {
		i := bytes.LastIndexAny(m.addr, ",\x00")
		m.addr = m.addr[:i+1]
		if i >= 0 && m.addr[i] == ',' {
			m.addr[i] = 0
		}
	}
	m.field = none
}

func (m *message) fieldEnd() {
	value := m.value[:m.n]
	switch m.field {
	case from, to:
		m.addrByte(0)
	case contentType:
		if m.part.contentType(value) {
			m.set.Reached(LimitMIME)
		}
	case disposition:
		m.part.disposition(value)
	case encoding:
		m.part.encoding = parseTransfer(value)
	}
	m.field = none
}

// headerEnd decides what to do with what follows a header.
func (m *message) headerEnd(at indicator.At) {
	if !m.headerDone {
		m.headerDone, m.headerAt = true, at
	}
	p := &m.part
	switch p.kind {
	case multipart:
		m.header = false
		if p.boundary.n == 0 {
			return
		}
		if m.depth == maxDepth {
			m.set.Reached(LimitMIME)
			return
		}
		m.bounds[m.depth] = p.boundary
		m.depth++
	case embedded:
		// Its header comes now. It is never encoded as a whole, whatever is said
		// (RFC 2046, 5.2.1).
		*p = part{broken: p.broken}
	default:
		m.header = false
		if (p.named || p.kind != text) && p.encoding != unknown && !p.broken {
			m.body.begin(p.encoding)
		}
	}
}

// gap tells that lines are missing.
func (m *message) gap() {
	if m == nil {
		return
	}
	m.body.on = false
	m.part.broken = true
	m.cutAddress()
}

// end is the end of the message. whole tells whether it has its last line.
func (m *message) end(at indicator.At, whole bool) {
	if m == nil || !m.open {
		return
	}
	m.open = false
	if whole {
		m.partEnd(true, at)
	} else {
		m.cutAddress()
		if m.headerDone {
			at = m.headerAt
		}
	}
	m.body.on = false
	for b := m.addr; len(b) > 0; {
		value, rest, _ := bytes.Cut(b, []byte{0})
		b = rest
		if len(value) == 0 {
			continue
		}
		role := indicator.MailFrom
		if field(value[0]) == to {
			role = indicator.MailTo
		}
		addresses(m.set, value[1:], role, at)
	}
}

func (m *message) close() {
	if m != nil {
		m.set.Give(cap(m.addr))
		m.addr = nil
	}
}
