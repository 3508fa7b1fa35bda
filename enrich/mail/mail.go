// Package mail finds addresses, host names and attachments in SMTP connections.
package mail

import (
	"bytes"
	"strconv"

	"capagent/enrich/indicator"
	"capagent/enrich/stream"
)

// The limits.
const (
	LimitLine   indicator.Limit = "mail_line"   // a command too long to be one, or a line that found no memory
	LimitHeader indicator.Limit = "mail_header" // more addresses than a header can sensibly have
	LimitMIME   indicator.Limit = "mail_mime"   // parts nested deeper than is followed, or a field too long
	LimitMemory indicator.Limit = "mail_memory" // a message that found no memory: only its end is looked for
)

// Recognise tells whether the first bytes of a side are of SMTP.
func Recognise(from stream.Side, b []byte) bool {
	if from == stream.Client {
		return len(b) >= 5 && (fold(b[:5], "EHLO ") || fold(b[:5], "HELO ") || fold(b[:5], "LHLO "))
	}
	if len(b) < 4 || string(b[:3]) != "220" || b[3] != ' ' && b[3] != '-' {
		return false
	}
	line, _, _ := bytes.Cut(b[:min(len(b), 512)], []byte("\n"))
	for i := 4; i+4 <= len(line); i++ {
		if fold(line[i:i+4], "SMTP") {
			return true
		}
	}
	return false
}

// fold compares with a word in capitals.
func fold(b []byte, word string) bool {
	return len(b) == len(word) && bytes.EqualFold(b, []byte(word))
}

// state is what the client's next bytes are.
type state uint8

const (
	commands state = iota
	data           // a message, up to a line with a single dot
	chunk          // some bytes of a message (RFC 3030)
)

// Parser follows one SMTP connection (RFC 5321).
type Parser struct {
	set   *indicator.Set
	state state // of the client
	lines lines // commands, and messages after DATA
	msg   *message
	begun bool // a line after DATA came
	gap   bool // in the message

	chunks lines
	left   int64 // of the chunk
	last   bool  // the chunk is the message's last

	startTLS bool
	code     [4]byte // of the server's line
	codeLen  int
}

var _ stream.Parser = (*Parser)(nil)

// New returns the parser of one connection.
func New(set *indicator.Set, _ stream.Conn) *Parser {
	return &Parser{set: set}
}

// Data implements stream.Parser.
func (p *Parser) Data(from stream.Side, b []byte, at indicator.At) stream.Verdict {
	if from == stream.Server {
		return p.replies(b, at)
	}
	for len(b) > 0 {
		if p.state == chunk {
			n := int(min(p.left, int64(len(b))))
			p.chunk(b[:n], at)
			b = b[n:]
			continue
		}
		piece, first, last, rest := p.lines.next(p.set, b)
		b = rest
		switch {
		case piece == nil:
		case p.state == data:
			p.dataLine(piece, first, last, at)
		case first && last:
			p.command(bytes.TrimRight(piece, "\r\n"), at)
		case first:
			p.set.Reached(LimitLine)
		}
	}
	return stream.More
}

// dataLine takes a line after DATA, its dots doubled (RFC 5321, 4.5.2).
func (p *Parser) dataLine(piece []byte, first, last bool, at indicator.At) {
	if first {
		if string(piece) == ".\r\n" {
			p.finish(at, true)
			return
		}
		// A server may refuse DATA; then the client goes on with a command. No
		// header begins like this.
		if !p.begun && (fold(piece, "RSET\r\n") || fold(piece, "QUIT\r\n") || isMail(piece)) {
			p.finish(at, false)
			p.command(bytes.TrimRight(piece, "\r\n"), at)
			return
		}
		p.begun = true
		if piece[0] == '.' {
			piece = piece[1:]
		}
	}
	p.msg.line(piece, first, last, at)
}

func isMail(line []byte) bool {
	return len(line) > 10 && fold(line[:10], "MAIL FROM:")
}

func (p *Parser) command(line []byte, at indicator.At) {
	verb, rest, _ := bytes.Cut(line, []byte(" "))
	switch {
	case fold(verb, "EHLO"), fold(verb, "HELO"), fold(verb, "LHLO"):
		p.abandon(at)
		p.hello(rest, at)
	case fold(verb, "MAIL"):
		p.abandon(at)
		p.path(rest, "FROM", indicator.MailFrom, at)
	case fold(verb, "RCPT"):
		p.path(rest, "TO", indicator.MailTo, at)
	case fold(verb, "RSET"):
		p.abandon(at)
	case fold(verb, "DATA"):
		p.abandon(at)
		p.open()
		p.state, p.begun = data, false
	case fold(verb, "BDAT"):
		p.bdat(rest, at)
	case fold(verb, "STARTTLS"):
		p.startTLS = true
	}
}

// hello takes what a client calls itself: a domain or an address literal, and
// often neither.
func (p *Parser) hello(name []byte, at indicator.At) {
	name, _, _ = bytes.Cut(bytes.TrimSpace(name), []byte(" "))
	if n := len(name); n > 2 && name[0] == '[' && name[n-1] == ']' {
		inner := name[1 : n-1]
		if len(inner) > 5 && fold(inner[:5], "IPV6:") { // RFC 5321, 4.1.3
			inner = inner[5:]
		}
		name = inner
	} else if bytes.IndexByte(name, '.') <= 0 {
		return
	}
	if bytes.ContainsAny(name, ".:") {
		p.set.Host(name, indicator.MailHost, at)
	}
}

// path takes the address of "FROM:<a@b.example> SIZE=1".
func (p *Parser) path(rest []byte, word string, role indicator.Role, at indicator.At) {
	rest = bytes.TrimLeft(rest, " ")
	if len(rest) < len(word) || !fold(rest[:len(word)], word) {
		return
	}
	rest = bytes.TrimLeft(rest[len(word):], " ")
	if len(rest) == 0 || rest[0] != ':' {
		return
	}
	// Parameters follow, that may look like addresses.
	mailbox, _, _ := bytes.Cut(bytes.TrimLeft(rest[1:], " "), []byte(" "))
	addresses(p.set, mailbox, role, at)
}

func (p *Parser) bdat(rest []byte, at indicator.At) {
	size, last, _ := bytes.Cut(rest, []byte(" "))
	n, err := strconv.ParseInt(string(size), 10, 64)
	if err != nil || n < 0 {
		return
	}
	if p.msg == nil || !p.msg.open {
		p.open()
		p.chunks.reset()
	}
	p.state, p.left, p.last = chunk, n, fold(bytes.TrimSpace(last), "LAST")
	p.chunk(nil, at)
}

// chunk takes bytes of a chunk. The last line of one may go on in the next.
func (p *Parser) chunk(b []byte, at indicator.At) {
	p.left -= int64(len(b))
	for len(b) > 0 {
		piece, first, last, rest := p.chunks.next(p.set, b)
		if piece != nil {
			p.msg.line(piece, first, last, at)
		}
		b = rest
	}
	switch {
	case p.left > 0:
	case p.last:
		if piece, first := p.chunks.flush(); piece != nil {
			p.msg.line(piece, first, true, at)
		}
		p.finish(at, true)
	default:
		p.state = commands
	}
}

// open begins a message.
func (p *Parser) open() {
	if p.msg == nil && p.set.Take(messageSize, LimitMemory) {
		p.msg = newMessage(p.set)
	}
	if p.msg != nil {
		p.msg.begin()
	}
	p.gap = false
}

// abandon ends a message whose chunks did not go on.
func (p *Parser) abandon(at indicator.At) {
	if p.msg != nil && p.msg.open {
		p.finish(at, false)
	}
}

func (p *Parser) finish(at indicator.At, whole bool) {
	p.msg.end(at, whole)
	p.state = commands
}

// replies looks at the server's lines, of which only the codes matter.
func (p *Parser) replies(b []byte, at indicator.At) stream.Verdict {
	for len(b) > 0 {
		if p.codeLen < len(p.code) {
			p.code[p.codeLen] = b[0]
			p.codeLen++
		}
		if p.codeLen == len(p.code) || b[0] == '\n' {
			i := bytes.IndexByte(b, '\n')
			if i < 0 {
				return stream.More
			}
			complete := p.code[3] != '-'
			p.codeLen, p.code[3] = 0, 0
			b = b[i+1:]
			if complete && p.reply(at) {
				return stream.Again
			}
			continue
		}
		b = b[1:]
	}
	return stream.More
}

// reply takes the last line of a reply. It tells whether TLS begins.
func (p *Parser) reply(at indicator.At) bool {
	code := string(p.code[:3])
	if p.startTLS {
		p.startTLS = false
		return code == "220" // RFC 3207, 4
	}
	// The end of the message was in a gap.
	if p.gap && p.state == data && code != "354" && code >= "200" && code <= "599" {
		p.finish(at, false)
	}
	return false
}

// Gap implements stream.Parser. A message counts from the next line on; no line ends
// like a command begins.
func (p *Parser) Gap(from stream.Side, n int64, at indicator.At) stream.Verdict {
	if from == stream.Server {
		p.codeLen = 0
		return stream.More
	}
	p.gap = true
	if l := &p.lines; p.state != commands {
		if p.state == chunk {
			l = &p.chunks
		}
		if piece, first := l.flush(); piece != nil {
			p.msg.line(piece, first, false, at)
		}
	}
	if p.msg != nil {
		p.msg.gap()
	}
	if p.state == chunk && n > 0 && n < p.left {
		p.left -= n
		p.chunks.cut()
		return stream.More
	}
	if p.state == chunk { // where the next command begins, nobody knows
		p.finish(at, false)
	}
	if p.state == data {
		p.lines.cut() // the end of a line could look like the message's
	} else {
		p.lines.reset()
	}
	return stream.More
}

// End implements stream.Parser.
func (p *Parser) End(from stream.Side, at indicator.At) {
	if from == stream.Client {
		p.abandon(at)
	}
}

// Close implements stream.Parser.
func (p *Parser) Close(at indicator.At) {
	p.abandon(at)
	p.lines.close(p.set)
	p.chunks.close(p.set)
	if p.msg != nil {
		p.msg.close()
		p.set.Give(messageSize)
		p.msg = nil
	}
}
