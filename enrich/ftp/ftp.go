// Package ftp hashes the files that go over FTP: its control connection tells
// which data connections come, and what they carry.
package ftp

import (
	"bytes"
	"net/netip"

	"capagent/enrich/indicator"
	"capagent/enrich/stream"
)

// The limits.
const (
	LimitLine   indicator.Limit = "ftp_line"   // a command that found no memory, or is too long to be one
	LimitMemory indicator.Limit = "ftp_memory" // a transfer that found no memory: it is not hashed
)

// Transfer is a data connection that was announced. What it carries is known only
// when its command comes, which is later, but before the data.
type Transfer struct{ kind kind }

type kind uint8

const (
	unknown kind = iota
	listing      // or part of a file
	upload
	download
)

// Recognise tells whether the first bytes of a side are of FTP.
func Recognise(from stream.Side, b []byte) bool {
	if from != stream.Server || len(b) < 4 || string(b[:3]) != "220" || b[3] != ' ' && b[3] != '-' {
		return false
	}
	line, _, _ := bytes.Cut(b[:min(len(b), 512)], []byte("\n"))
	for i := 4; i+3 <= len(line); i++ {
		if fold(line[i:i+3], "FTP") {
			return true
		}
	}
	return false
}

// fold compares with a word in capitals.
func fold(b []byte, word string) bool {
	return len(b) == len(word) && bytes.EqualFold(b, []byte(word))
}

// Parser follows one control connection (RFC 959, RFC 2428).
type Parser struct {
	set     *indicator.Set
	conn    stream.Conn
	expect  func(listening netip.AddrPort, t *Transfer)
	lines   [2]lines
	next    *Transfer // that was announced last
	partial bool      // the next file doesn't begin at its beginning
	auth    bool      // TLS was asked for
}

var _ stream.Parser = (*Parser)(nil)

// New returns the parser of a control connection. expect is told of each data
// connection that will come: who listens for it, which may be two guesses because
// of network address translation, and what to give to Data.
func New(set *indicator.Set, conn stream.Conn, expect func(listening netip.AddrPort, t *Transfer)) *Parser {
	return &Parser{set: set, conn: conn, expect: expect}
}

// Data implements stream.Parser.
func (p *Parser) Data(from stream.Side, b []byte, _ indicator.At) stream.Verdict {
	for len(b) > 0 {
		line, rest := p.lines[from].next(p.set, b)
		b = rest
		if line == nil {
			continue
		}
		if from == stream.Client {
			p.command(line)
		} else if p.reply(line) {
			return stream.Again
		}
	}
	return stream.More
}

func (p *Parser) command(line []byte) {
	verb, arg, _ := bytes.Cut(line, []byte(" "))
	switch {
	case fold(verb, "PORT"):
		p.announce(p.conn.Client, hostPort(arg))
	case fold(verb, "EPRT"):
		p.announce(p.conn.Client, extended(arg))
	case fold(verb, "REST"):
		p.partial = len(bytes.Trim(arg, "0 ")) > 0
	case fold(verb, "RETR"):
		p.begin(download)
	case fold(verb, "STOR"), fold(verb, "STOU"), fold(verb, "APPE"):
		p.begin(upload)
	case fold(verb, "LIST"), fold(verb, "NLST"), fold(verb, "MLSD"):
		p.begin(listing)
	case fold(verb, "AUTH"):
		p.auth = true
	}
}

func (p *Parser) begin(k kind) {
	if p.partial && k != listing {
		k, p.partial = listing, false
	}
	if p.next != nil {
		p.next.kind = k
		p.next = nil
	}
}

// reply looks at a line of the server. It tells whether TLS begins.
func (p *Parser) reply(line []byte) bool {
	if len(line) < 4 || line[3] != ' ' {
		return false
	}
	switch string(line[:3]) {
	case "227":
		p.announce(p.conn.Server, hostPort(line[4:]))
	case "229":
		p.announce(p.conn.Server, extended(line[4:]))
	case "234": // RFC 4217, 4
		return p.auth
	}
	if line[0] >= '4' {
		p.auth = false
	}
	return false
}

// announce tells of a data connection. Who speaks is who listens, at the address
// at which this connection reaches him: what he says may be an address behind a
// translator, or another machine.
func (p *Parser) announce(speaker, said netip.AddrPort) {
	if said.Port() == 0 {
		return
	}
	p.next = &Transfer{}
	at := netip.AddrPortFrom(speaker.Addr().Unmap(), said.Port())
	p.expect(at, p.next)
	if a := said.Addr(); a.IsValid() && !a.IsUnspecified() && a != at.Addr() {
		p.expect(said, p.next)
	}
}

// Gap implements stream.Parser. No line ends like a command or reply of interest
// begins.
func (p *Parser) Gap(from stream.Side, _ int64, _ indicator.At) stream.Verdict {
	p.lines[from].reset()
	return stream.More
}

// End implements stream.Parser.
func (p *Parser) End(stream.Side, indicator.At) {}

// Close implements stream.Parser.
func (p *Parser) Close(indicator.At) {
	p.lines[0].close(p.set)
	p.lines[1].close(p.set)
}
