package pcapio

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"
)

// Limits bound one piece of a file that is split. 0 means no limit.
type Limits struct {
	Packets int64
	Bytes   int64 // of the piece as a file
}

// Piece is a part of a capture file that is a valid capture file itself: its
// bytes are Prefix followed by Length bytes of the payload from Offset.
type Piece struct {
	Prefix         []byte // shared between pieces: not to be changed
	Offset, Length int64
	Size           int64  // len(Prefix) + Length
	SHA256, SHA1   string // of the piece's bytes, lower-case hex
	Packets        int64
	First, Last    time.Time // earliest and latest packet, UTC; zero without a dated packet
}

// Bounds on what a plan costs in memory.
const (
	maxPrefix   = 1 << 20  // of one piece
	maxPrefixes = 16 << 20 // of all pieces together, shared bytes counted once
	maxPieces   = 10000
)

// Plan reads a capture file (without its wrapper; see Unwrap) in one pass and
// says how to cut it between records into pieces within the limits. Each packet
// is in exactly one piece. A file within the limits is one piece without a
// prefix: the file as it is, to its end, damage included. When a file is cut,
// its pieces end with the last whole record, so a torn or damaged tail is left
// out (a torn record of more than 1 MiB makes a cut as if it were whole), and so
// is a piece without a packet, which can only hold what the format calls
// statistics and descriptions.
//
// A prefix is the file header of a pcap file. In pcapng it is what the current
// section has said before Offset and later packets need: the section header
// (its length set to "unknown"), interfaces, secrets, names, and blocks of
// unknown types; not statistics, journal entries, and custom blocks marked as
// not to be copied. A section header inside a piece keeps the length that it
// has, which may point beyond the piece; readers do not rely on it.
//
// The error wraps ErrNotCapture; ErrNoSplit when a packet does not fit into
// Limits.Bytes, the layout of the records had to be guessed (a reader of a piece
// might guess otherwise), a prefix would exceed 1 MiB, or there would be more than 10,000
// pieces; or it is what payload returned.
func Plan(payload io.Reader, limits Limits) ([]Piece, error) {
	p := &planner{limits: limits, sums: newDigests()}
	r, err := newReader(payload, func(b []byte) { p.sums.write(b) })
	if err != nil {
		return nil, err
	}
	p.r = r
	r.beforeSkip = p.beforeHuge
	if r.format == Pcap {
		p.prefix = append([]byte(nil), r.buf[r.pos-r.pcap.size:r.pos]...)
	} else {
		p.carry(r.last)
	}
	p.whole = r.Offset()
	return p.run()
}

type planner struct {
	r      *Reader
	limits Limits
	done   []Piece
	cur    Piece
	cut    bool // the file does not stay whole
	timed  bool // cur has a dated packet
	sums   *digests

	prefix     []byte // what a piece that begins here would need; only ever appended to
	prefixOver bool   // it would be over maxPrefix
	prefixes   int    // bytes of prefixes in use by pieces
	used       int    // bytes of the current section's prefix among them

	whole int64 // end of the last whole record
	// huge is set while the reader passes over a record that it cannot hold:
	// the digests as they were before it.
	huge *digests
}

func (p *planner) run() ([]Piece, error) {
	var pkt Packet
	for {
		packet, err := p.r.step(&pkt)
		if err != nil {
			return p.finish(err)
		}
		rec := p.r.last
		if err := p.before(rec); err != nil { // beforeHuge may have done it, which does no harm
			return nil, err
		}
		p.huge = nil
		p.whole = rec.off + rec.size
		if packet {
			p.count(&pkt)
		} else {
			p.carry(rec)
		}
	}
}

// beforeHuge is before for a record whose bytes are about to be given up.
func (p *planner) beforeHuge(rec record) error {
	if err := p.before(rec); err != nil {
		return err
	}
	p.r.flushTo(rec.off)
	p.huge = p.sums.clone()
	return nil
}

// before ends the current piece where rec does not fit into it.
func (p *planner) before(rec record) error {
	over := func() bool {
		return p.limits.Bytes > 0 && int64(len(p.cur.Prefix))+rec.off+rec.size-p.cur.Offset > p.limits.Bytes
	}
	starts := rec.packet || rec.block == blockSection
	full := p.limits.Packets > 0 && p.cur.Packets >= p.limits.Packets
	if full && starts || over() && rec.off > p.cur.Offset {
		if err := p.cutAt(rec); err != nil {
			return err
		}
	}
	if rec.packet && over() {
		return &SplitError{Reason: fmt.Sprintf("the packet at byte %d does not fit into %d bytes", rec.off, p.limits.Bytes)}
	}
	return nil
}

// errGuessed: a reader of less than the whole file might guess otherwise.
var errGuessed = &SplitError{Reason: "the layout of its records (a modified pcap) is told by the whole file only"}

// cutAt ends the current piece before rec and begins the next one with it.
func (p *planner) cutAt(rec record) error {
	if p.r.guessed {
		return errGuessed
	}
	p.cut = true
	p.r.flushTo(rec.off)
	p.close(rec.off, p.sums)
	if len(p.done) == maxPieces {
		return &SplitError{Reason: fmt.Sprintf("it would make more than %d pieces", maxPieces)}
	}
	p.cur = Piece{Offset: rec.off}
	p.timed = false
	p.sums = newDigests()
	if rec.block == blockSection {
		return nil
	}
	if p.prefixOver {
		return &SplitError{Reason: fmt.Sprintf("every piece would begin with more than %d bytes of descriptions", maxPrefix)}
	}
	p.prefixes += len(p.prefix) - p.used
	p.used = len(p.prefix)
	if p.prefixes > maxPrefixes {
		return &SplitError{Reason: fmt.Sprintf("the pieces would begin with more than %d bytes of descriptions", maxPrefixes)}
	}
	p.cur.Prefix = p.prefix[:len(p.prefix):len(p.prefix)]
	p.sums.write(p.cur.Prefix)
	return nil
}

// close ends the current piece at offset off; sums are those of its bytes.
func (p *planner) close(off int64, sums *digests) {
	if p.cut && p.cur.Packets == 0 {
		return
	}
	p.cur.Length = off - p.cur.Offset
	p.cur.Size = int64(len(p.cur.Prefix)) + p.cur.Length
	p.cur.SHA256, p.cur.SHA1 = sums.hex()
	p.done = append(p.done, p.cur)
}

func (p *planner) count(pkt *Packet) {
	p.cur.Packets++
	if pkt.NoTime {
		return
	}
	at := time.Unix(0, pkt.Time).UTC()
	if !p.timed || at.Before(p.cur.First) {
		p.cur.First = at
	}
	if !p.timed || at.After(p.cur.Last) {
		p.cur.Last = at
	}
	p.timed = true
}

// carry adds a block to the prefix of later pieces when they need it.
func (p *planner) carry(rec record) {
	switch rec.block {
	case blockStats, blockJournal, blockPrivate:
		return
	case blockSection:
		p.prefix, p.prefixOver, p.used = nil, false, 0
	}
	if rec.raw == nil || len(p.prefix)+len(rec.raw) > maxPrefix {
		p.prefixOver = true
		return
	}
	p.prefix = append(p.prefix, rec.raw...)
	if rec.block == blockSection {
		for i := 16; i < 24; i++ { // section length: unknown
			p.prefix[i] = 0xff
		}
	}
}

// finish closes the last piece. why is what ended the reading.
func (p *planner) finish(why error) ([]Piece, error) {
	if !errors.Is(why, io.EOF) && !errors.Is(why, ErrTruncated) && !errors.Is(why, ErrFormat) {
		return nil, why
	}
	// The digests at the end of the last whole record.
	before := p.huge
	if before == nil {
		p.r.flushTo(p.whole)
		before = p.sums.clone()
	}
	if p.cut {
		p.close(p.whole, before)
		return p.result()
	}
	err := p.r.drain()
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, ErrFormat) {
		return nil, err
	}
	size := p.r.base + int64(p.r.end)
	switch {
	case p.limits.Bytes == 0 || size <= p.limits.Bytes:
		p.close(size, p.sums)
	case p.r.guessed:
		return nil, errGuessed
	default:
		p.close(p.whole, before)
	}
	return p.result()
}

// result is the plan, unless nothing in the file could be made to fit.
func (p *planner) result() ([]Piece, error) {
	if len(p.done) == 0 || p.limits.Bytes > 0 && p.done[0].Size > p.limits.Bytes {
		return nil, &SplitError{Reason: fmt.Sprintf("it has more than %d bytes and no packet", p.limits.Bytes)}
	}
	return p.done, nil
}

// digests are the two digests of one piece.
type digests struct{ sha256, sha1 hash.Hash }

func newDigests() *digests { return &digests{sha256.New(), sha1.New()} }

func (d *digests) write(b []byte) {
	_, _ = d.sha256.Write(b)
	_, _ = d.sha1.Write(b)
}

func (d *digests) hex() (string, string) {
	return hex.EncodeToString(d.sha256.Sum(nil)), hex.EncodeToString(d.sha1.Sum(nil))
}

// clone returns a copy that goes its own way.
func (d *digests) clone() *digests {
	again := func(h hash.Hash) hash.Hash {
		c, err := h.(hash.Cloner).Clone()
		if err != nil {
			panic(err) // the standard library's digests can always be cloned
		}
		return c
	}
	return &digests{again(d.sha256), again(d.sha1)}
}
