package frame

import (
	"slices"

	"capagent/enrich/indicator"
)

const (
	maxDatagram  = 65535 + 60
	maxWaiting   = 1024                // datagrams of which fragments are kept
	waitAtMost   = 60 * 1_000_000_000  // nanoseconds by packet time (RFC 8200, 4.5)
	maxPieces    = maxDatagram / 8 / 8 // fragments of one datagram
	waitingBytes = 256                 // what one costs besides its bytes
)

// LimitFragments counts datagrams that were given up for want of room.
const LimitFragments indicator.Limit = "fragments"

// fragmentKey is what the fragments of a datagram have in common (RFC 791, 3.2).
type fragmentKey struct {
	src, dst Addr
	id       uint32
	proto    uint8
}

type piece struct{ from, to int }

// waiting is a datagram of which fragments are missing.
type waiting struct {
	key    fragmentKey
	data   []byte
	have   []piece // sorted, apart from each other
	length int     // 0: the last one did not come yet
	first  int64   // time
}

// fragments puts datagrams together. Bytes that came first win over later ones
// for the same place, as in Wireshark.
type fragments struct {
	bounds  *indicator.Bounds
	waiting map[fragmentKey]*waiting
	order   []*waiting // oldest first; those that were completed stay until they are oldest
	granted int        // for the datagram that was completed last
}

// add keeps a fragment. It returns the datagram that it completes, to be released.
func (f *fragments) add(k fragmentKey, b []byte, offset int, more bool, now int64) []byte {
	if offset+len(b) > maxDatagram || len(b) == 0 {
		return nil
	}
	w := f.waiting[k]
	if w != nil && now-w.first > waitAtMost {
		f.forget(w)
		w = nil
	}
	if w == nil {
		w = f.begin(k, now)
	}
	to := offset + len(b)
	if !more {
		if w.length != 0 && w.length != to {
			return nil
		}
		w.length = to
	}
	if !f.grow(w, to) || !w.insert(b, offset) {
		f.bounds.Reached(LimitFragments)
		f.forget(w)
		return nil
	}
	if w.length == 0 || len(w.have) != 1 || w.have[0].from != 0 || w.have[0].to < w.length {
		return nil
	}
	delete(f.waiting, k)
	f.granted = cap(w.data) + waitingBytes
	data := w.data[:w.length]
	w.data = nil
	return data
}

// release gives back the memory of a datagram that add returned.
func (f *fragments) release([]byte) {
	f.bounds.Give(f.granted)
	f.granted = 0
}

func (f *fragments) begin(k fragmentKey, now int64) *waiting {
	if f.waiting == nil {
		f.waiting = map[fragmentKey]*waiting{}
	}
	if len(f.order) >= 2*maxWaiting {
		f.order = slices.DeleteFunc(f.order, func(w *waiting) bool { return f.waiting[w.key] != w })
		for len(f.order) >= maxWaiting {
			f.bounds.Reached(LimitFragments)
			f.forget(f.order[0])
			f.order = f.order[1:]
		}
	}
	w := &waiting{key: k, first: now}
	f.bounds.Take(waitingBytes, LimitFragments)
	f.waiting[k] = w
	f.order = append(f.order, w)
	return w
}

// grow makes room for n bytes.
func (f *fragments) grow(w *waiting, n int) bool {
	if n <= cap(w.data) {
		return true
	}
	size := min(max(2*cap(w.data), n, 4096), maxDatagram)
	if !f.bounds.Take(size-cap(w.data), LimitFragments) {
		return false
	}
	data := make([]byte, size)
	copy(data, w.data[:cap(w.data)])
	w.data = data[:size:size]
	return true
}

// insert copies what is new of b, and notes that it is there.
func (w *waiting) insert(b []byte, offset int) bool {
	if len(w.have) >= maxPieces {
		return false
	}
	from, to := offset, offset+len(b)
	at := from
	for _, p := range w.have {
		if p.to <= at {
			continue
		}
		if p.from >= to {
			break
		}
		if p.from > at {
			copy(w.data[at:p.from], b[at-offset:])
		}
		at = max(at, p.to)
	}
	if at < to {
		copy(w.data[at:to], b[at-offset:])
	}
	i := 0
	for i < len(w.have) && w.have[i].to < from {
		i++
	}
	j := i
	for j < len(w.have) && w.have[j].from <= to {
		from, to = min(from, w.have[j].from), max(to, w.have[j].to)
		j++
	}
	w.have = slices.Replace(w.have, i, j, piece{from, to})
	return true
}

func (f *fragments) forget(w *waiting) {
	delete(f.waiting, w.key)
	f.bounds.Give(cap(w.data) + waitingBytes)
	w.data = nil
}

func (f *fragments) clear() {
	for _, w := range f.waiting {
		f.forget(w)
	}
	f.order = nil
}
