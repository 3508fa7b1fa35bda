package dns

import (
	"encoding/binary"

	"capagent/enrich/indicator"
	"capagent/enrich/stream"
)

// LimitStream is met by a connection whose message found no memory. The rest of
// that side is not looked at.
const LimitStream indicator.Limit = "dns_stream"

// TCP follows DNS over TCP (RFC 1035, 4.2.2; RFC 7766).
type TCP struct {
	set   *indicator.Set
	sides [2]side
}

// side is one direction. A message that comes in one piece is never copied.
type side struct {
	buf    []byte // the beginning of a message, with its length in front
	resync bool   // a gap was before: what comes next may be anything
	dead   bool   // nobody knows where messages begin
}

// NewTCP returns the parser of one connection.
func NewTCP(set *indicator.Set) *TCP { return &TCP{set: set} }

var _ stream.Parser = (*TCP)(nil)

// Data implements stream.Parser.
func (t *TCP) Data(from stream.Side, b []byte, at indicator.At) stream.Verdict {
	s := &t.sides[from]
	for len(b) > 0 && !s.dead {
		if len(s.buf) == 0 && len(b) >= 2 {
			if n := 2 + int(binary.BigEndian.Uint16(b)); len(b) >= n {
				t.message(s, b[:n], at)
				b = b[n:]
				continue
			}
		}
		n := min(s.need()-len(s.buf), len(b))
		if !t.add(s, b[:n]) {
			t.kill(s)
			break
		}
		b = b[n:]
		if len(s.buf) == s.need() {
			t.message(s, s.buf, at)
			s.buf = s.buf[:0]
		}
	}
	return t.verdict()
}

// need is how many bytes make the next decision possible.
func (s *side) need() int {
	if len(s.buf) < 2 {
		return 2
	}
	return 2 + int(binary.BigEndian.Uint16(s.buf))
}

func (t *TCP) message(s *side, b []byte, at indicator.At) {
	if s.resync && !plausible(b[2:]) {
		t.kill(s)
		return
	}
	s.resync = false
	Message(t.set, b[2:], Unicast, at)
}

// plausible tells whether bytes behind a gap are a message: their length, which
// stood before them, is right then, too.
func plausible(msg []byte) bool {
	if len(msg) < header || msg[2]>>3&15 > 6 || msg[3]&0x40 != 0 {
		return false
	}
	count := func(at int) int { return int(binary.BigEndian.Uint16(msg[at:])) }
	questions, records := count(4), count(6)+count(8)+count(10)
	return questions+records > 0 && questions <= 1 && 5*questions+11*records <= len(msg)-header
}

func (t *TCP) add(s *side, b []byte) bool {
	if n := len(s.buf) + len(b); n > cap(s.buf) {
		n = max(2*cap(s.buf), n, 512)
		if !t.set.Take(n-cap(s.buf), LimitStream) {
			return false
		}
		s.buf = append(make([]byte, 0, n), s.buf...)
	}
	s.buf = append(s.buf, b...)
	return true
}

func (t *TCP) kill(s *side) {
	t.free(s)
	s.dead = true
}

func (t *TCP) free(s *side) {
	t.set.Give(cap(s.buf))
	s.buf = nil
}

func (t *TCP) verdict() stream.Verdict {
	if t.sides[0].dead && t.sides[1].dead {
		return stream.Done
	}
	return stream.More
}

// Gap implements stream.Parser. Behind it a message has to begin.
func (t *TCP) Gap(from stream.Side, _ int64, _ indicator.At) stream.Verdict {
	s := &t.sides[from]
	s.buf = s.buf[:0]
	s.resync = true
	return t.verdict()
}

// End implements stream.Parser. A message that is not whole is none.
func (t *TCP) End(from stream.Side, _ indicator.At) { t.kill(&t.sides[from]) }

// Close implements stream.Parser.
func (t *TCP) Close(indicator.At) {
	t.free(&t.sides[0])
	t.free(&t.sides[1])
}
