package ledger

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/klauspost/compress/zstd"
)

// A block holds sightings in the order of their keys, compressed, with a checksum.
// Inside: entries of
//
//	how many bytes the key shares with the one before, how many more it has, these
//	how many postings, and how many bytes they take, these
//
// and a posting is the capture's seq (the difference to the one before, at first to
// the segment's lowest), frame, count, role, first and span. All numbers are
// uvarints. A key whose postings don't fit goes on in the next block.

// posting is a sighting without its indicator.
type posting struct {
	seq         int64 // of the capture
	frame       int64
	count       int64
	role        uint64
	first, span int64 // milliseconds since the capture's base, and to the last sighting
}

const (
	// blockSize is what a block holds before it is compressed.
	blockSize = 16 << 10
	// maxBlock bounds what is unpacked: a key and postings of that size on top.
	maxBlock = 2*blockSize + maxSighted + 256
)

// codec packs and unpacks blocks. It may be used from any goroutine.
type codec struct {
	enc *zstd.Encoder
	dec *zstd.Decoder
}

func newCodec() (codec, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault),
		zstd.WithWindowSize(64<<10), zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(true))
	if err != nil {
		return codec{}, err
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxBlock), zstd.WithDecoderMaxWindow(64<<10))
	return codec{enc, dec}, err
}

func (c codec) close() {
	if c.dec != nil {
		c.dec.Close()
		_ = c.enc.Close() // nothing was streamed
	}
}

func (c codec) pack(raw []byte) []byte { return c.enc.EncodeAll(raw, nil) }

func (c codec) unpack(to, data []byte) ([]byte, error) {
	raw, err := c.dec.DecodeAll(data, to[:0])
	if err != nil {
		return nil, fmt.Errorf("%w: a block of sightings: %w", errStructure, err)
	}
	return raw, nil
}

// entry is a key of a block with its postings.
type entry struct {
	key      key // valid until the next entry is read
	count    int // of postings
	postings []byte
}

// blockReader reads the entries of a block.
type blockReader struct {
	rest []byte
	key  []byte
}

var errBlock = fmt.Errorf("%w: a block of sightings ends early", errStructure)

// next returns the next entry; ok is false at the end.
func (r *blockReader) next() (e entry, ok bool, err error) {
	if len(r.rest) == 0 {
		return entry{}, false, nil
	}
	shared, more := r.number(), r.number()
	if shared > uint64(len(r.key)) || more > uint64(len(r.rest)) || shared+more < 2 {
		return entry{}, false, errBlock
	}
	r.key = append(r.key[:shared], r.rest[:more]...)
	r.rest = r.rest[more:]
	count, size := r.number(), r.number()
	if size > uint64(len(r.rest)) || count > size {
		return entry{}, false, errBlock
	}
	e = entry{key: r.key, count: int(count), postings: r.rest[:size]}
	r.rest = r.rest[size:]
	return e, true, nil
}

// number reads a number; what can't be read is one that is too large.
func (r *blockReader) number() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.rest = nil
		return math.MaxUint64 >> 1
	}
	r.rest = r.rest[n:]
	return v
}

// each calls f with each posting; low is the segment's lowest seq.
func (e entry) each(low int64, f func(posting)) error {
	rest, seq := e.postings, low
	for range e.count {
		var v [6]uint64
		for i := range v {
			var n int
			if v[i], n = binary.Uvarint(rest); n <= 0 {
				return errBlock
			}
			rest = rest[n:]
		}
		seq += int64(v[0])
		f(posting{seq: seq, frame: int64(v[1]), count: int64(v[2]), role: v[3], first: int64(v[4]), span: int64(v[5])})
	}
	return nil
}

// blockWriter makes blocks of postings that come in the order of keys and seqs,
// and hands each to put, with its first key and, when it holds no other one, how
// many postings there are.
type blockWriter struct {
	low int64 // the segment's lowest seq
	put func(first key, alone int, raw []byte) error

	raw     []byte // whole entries
	entries int    // in raw
	first   key    // of raw
	last    key    // of the last entry
	alone   int    // how many postings that has

	open     bool // an entry is being written
	key      key
	seq      int64
	count    int
	postings []byte
}

func (w *blockWriter) add(k key, p posting) error {
	if w.open && !bytes.Equal(w.key, k) {
		if err := w.end(); err != nil {
			return err
		}
	}
	if !w.open {
		w.open, w.key = true, append(w.key[:0], k...)
		w.seq, w.count, w.postings = w.low, 0, w.postings[:0]
	}
	b := binary.AppendUvarint(w.postings, uint64(p.seq-w.seq))
	b = binary.AppendUvarint(b, uint64(p.frame))
	b = binary.AppendUvarint(b, uint64(p.count))
	b = binary.AppendUvarint(b, p.role)
	b = binary.AppendUvarint(b, uint64(p.first))
	w.postings = binary.AppendUvarint(b, uint64(p.span))
	w.seq = p.seq
	w.count++
	if len(w.raw)+len(w.postings) < blockSize {
		return nil
	}
	return w.end() // the key may go on in the next block
}

// end ends the entry that is being written, and its block when that is full.
func (w *blockWriter) end() error {
	if !w.open {
		return nil
	}
	shared := 0
	if w.entries == 0 {
		w.first = append(w.first[:0], w.key...)
	} else {
		for shared < min(len(w.last), len(w.key)) && w.last[shared] == w.key[shared] {
			shared++
		}
	}
	b := binary.AppendUvarint(w.raw, uint64(shared))
	b = binary.AppendUvarint(b, uint64(len(w.key)-shared))
	b = append(b, w.key[shared:]...)
	b = binary.AppendUvarint(b, uint64(w.count))
	b = binary.AppendUvarint(b, uint64(len(w.postings)))
	w.raw = append(b, w.postings...)
	w.last, w.key = w.key, w.last
	w.open, w.alone = false, w.count
	w.entries++
	if len(w.raw) < blockSize {
		return nil
	}
	return w.flush()
}

// flush puts the entries that were ended.
func (w *blockWriter) flush() error {
	if w.entries == 0 {
		return nil
	}
	if w.entries > 1 {
		w.alone = 0
	}
	err := w.put(w.first, w.alone, w.raw)
	w.raw, w.entries = w.raw[:0], 0
	return err
}
