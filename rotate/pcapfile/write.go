package pcapfile

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"capagent/internal/packet"
)

// What surrounds a packet's bytes in a file.
const (
	pcapHead  = 16
	ngHead    = 28 // and the padding to four bytes
	ngTail    = 4
	ngPacket  = 6  // block type
	pcapFirst = 24 // where a pcap file's first record begins
)

// Write appends packets and returns when their bytes are in a buffer. It waits
// while all buffers are on their way to the disk. An error is that of the file
// and stays: End the file. Call it with none too when no packet came for a
// while, so that the file does not lag behind for longer than Options.Flush.
//
// A time that the format can't hold (before 1970; pcap: after 2106-02-07) becomes
// the nearest that it can.
func (w *Writer) Write(batch []packet.Packet) error {
	f := w.file
	if f == nil {
		return errNoFile
	}
	if err := f.failure(); err != nil {
		return err
	}
	var err error
	if f.ng != nil {
		err = w.writeNg(batch)
	} else {
		err = w.writePcap(batch)
	}
	if w.opts.Flush > 0 && w.flushed < w.used {
		if now := time.Now(); now.Sub(w.handed) >= w.opts.Flush {
			w.flush(now)
		}
	}
	return err
}

func (w *Writer) writePcap(batch []packet.Packet) error {
	buf, used, before := w.buf, w.used, w.packets
	interfaces := uint32(len(w.file.interfaces))
	for i := range batch {
		p := &batch[i]
		if p.Interface >= interfaces {
			w.used, w.packets = used, before+uint64(i)
			return w.noInterface(p)
		}
		data := p.Data
		if len(data) > MaxPacket {
			data = data[:MaxPacket]
		}
		n := pcapHead + len(data)
		if n > len(buf)-used {
			w.used, w.packets = used, before+uint64(i)
			w.split(p, data)
			buf, used = w.buf, w.used
			continue
		}
		b := buf[used : used+n : used+n]
		pcapHeader((*[pcapHead]byte)(b), p, len(data))
		copy(b[pcapHead:], data)
		used += n
	}
	w.used, w.packets = used, before+uint64(len(batch))
	return nil
}

func pcapHeader(b *[pcapHead]byte, p *packet.Packet, captured int) {
	le := binary.LittleEndian
	sec, ns := uint64(p.Time)/1e9, uint64(p.Time)%1e9
	if sec > math.MaxUint32 {
		if sec, ns = math.MaxUint32, 999_999_999; p.Time < 0 {
			sec, ns = 0, 0
		}
	}
	le.PutUint32(b[0:], uint32(sec))
	le.PutUint32(b[4:], uint32(ns))
	le.PutUint32(b[8:], uint32(captured))
	le.PutUint32(b[12:], max(p.Length, uint32(captured)))
}

func (w *Writer) writeNg(batch []packet.Packet) error {
	le := binary.LittleEndian
	buf, used, before := w.buf, w.used, w.packets
	interfaces := uint32(len(w.file.interfaces))
	for i := range batch {
		p := &batch[i]
		if p.Interface >= interfaces {
			w.used, w.packets = used, before+uint64(i)
			return w.noInterface(p)
		}
		data := p.Data
		if len(data) > MaxPacket {
			data = data[:MaxPacket]
		}
		n := ngHead + (len(data)+3)&^3 + ngTail
		if n > len(buf)-used {
			w.used, w.packets = used, before+uint64(i)
			w.split(p, data)
			buf, used = w.buf, w.used
			continue
		}
		b := buf[used : used+n : used+n]
		le.PutUint32(b[n-8:], 0) // the padding; most of it is written over
		ngHeader((*[ngHead]byte)(b), p, len(data), n)
		le.PutUint32(b[n-4:], uint32(n))
		copy(b[ngHead:], data)
		used += n
	}
	w.used, w.packets = used, before+uint64(len(batch))
	return nil
}

func ngHeader(b *[ngHead]byte, p *packet.Packet, captured, size int) {
	le := binary.LittleEndian
	ns := uint64(max(p.Time, 0))
	le.PutUint32(b[0:], ngPacket)
	le.PutUint32(b[4:], uint32(size))
	le.PutUint32(b[8:], p.Interface)
	le.PutUint32(b[12:], uint32(ns>>32))
	le.PutUint32(b[16:], uint32(ns))
	le.PutUint32(b[20:], uint32(captured))
	le.PutUint32(b[24:], max(p.Length, uint32(captured)))
}

func (w *Writer) noInterface(p *packet.Packet) error {
	return failed(w.file.path, fmt.Errorf("a packet of interface %d, of which the file has %d", p.Interface, len(w.file.interfaces)))
}

// split writes a packet that the rest of the buffer can't hold.
func (w *Writer) split(p *packet.Packet, data []byte) {
	var head [ngHead]byte
	if w.file.ng == nil {
		pcapHeader((*[pcapHead]byte)(head[:]), p, len(data))
		w.record(pcapHead+len(data), true)
		w.append(head[:pcapHead])
		w.append(data)
	} else {
		pad := -len(data) & 3
		n := ngHead + len(data) + pad + ngTail
		ngHeader(&head, p, len(data), n)
		w.record(n, true)
		w.append(head[:])
		w.append(data)
		var tail [3 + ngTail]byte
		binary.LittleEndian.PutUint32(tail[pad:], uint32(n))
		w.append(tail[:pad+ngTail])
	}
	w.packets++
}

// sink takes blocks that are no packets, one a Write.
type sink struct{ w *Writer }

func (s sink) Write(b []byte) (int, error) {
	s.w.record(len(b), false)
	s.w.append(b)
	return len(b), nil
}

// record says that a record of n bytes follows.
func (w *Writer) record(n int, isPacket bool) {
	w.recStart = w.marks.base + int64(w.used)
	w.recEnd, w.recPacket = w.recStart+int64(n), isPacket
}

// append writes a part of the record that was announced.
func (w *Writer) append(b []byte) {
	for len(b) > 0 {
		if w.used == len(w.buf) {
			w.turn()
		}
		n := copy(w.buf[w.used:], b)
		w.used += n
		b = b[n:]
	}
}

// turn hands the full buffer over and goes on in the next one.
func (w *Writer) turn() {
	w.jobs <- job{file: w.file, buf: w.buf, from: w.flushed, to: w.used, marks: w.marks}
	w.handed = time.Now()
	base := w.marks.base + int64(len(w.buf))
	m := marks{base: base, open: min(w.recStart, base), packets: w.packets}
	if w.recStart < base {
		m.next, m.openPacket = w.recEnd-base, w.recPacket
	}
	w.take(m)
}

// take goes on in a free buffer.
func (w *Writer) take(m marks) {
	select {
	case w.buf = <-w.free:
	default:
		start := time.Now()
		w.buf = <-w.free
		w.waited.Add(int64(time.Since(start)))
	}
	w.marks, w.used, w.flushed = m, 0, 0
}

// Flush hands over what is in the buffer, so that it soon is in the file for
// others to read. It does not wait; while an earlier flush is on its way it does
// nothing. A reader of the growing file may meet a torn record at its end.
func (w *Writer) Flush() error {
	if w.file == nil {
		return errNoFile
	}
	w.flush(time.Now())
	return w.file.failure()
}

func (w *Writer) flush(now time.Time) {
	if w.flushed == w.used || !w.flushing.CompareAndSwap(false, true) {
		return
	}
	w.jobs <- job{file: w.file, buf: w.buf, from: w.flushed, to: w.used, marks: w.marks, keep: true}
	w.flushed, w.handed = w.used, now
}

// Fit is how many of the packets can be written without the file growing beyond
// size bytes.
func (w *Writer) Fit(batch []packet.Packet, size int64) int {
	at := w.Size()
	for i := range batch {
		n := min(len(batch[i].Data), MaxPacket)
		if w.file != nil && w.file.ng != nil {
			n = ngHead + (n+3)&^3 + ngTail
		} else {
			n += pcapHead
		}
		if at += int64(n); at > size {
			return i
		}
	}
	return len(batch)
}
