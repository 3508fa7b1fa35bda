package rotate

import (
	"fmt"
	"math"
	"slices"
	"time"

	"capagent/internal/packet"
	"capagent/internal/pcapio"
)

// some writes as much of batch as the limits of one file let in.
func (r *Rotator) some(batch []packet.Packet) (int, error) {
	if r.file.part == "" {
		if err := r.begin(batch[0].Time); err != nil {
			return 0, err
		}
	}
	f, reason := &r.file, Reason("")
	if left := uint64(r.opts.Config.Packets) - f.packets; r.opts.Config.Packets > 0 && uint64(len(batch)) >= left {
		batch, reason = batch[:left], Packets
	}
	s := scan(batch)
	if s.last >= f.until && f.until < math.MaxInt64 {
		n := slices.IndexFunc(batch, func(p packet.Packet) bool { return p.Time >= f.until })
		batch, reason = batch[:n], Interval
		s = scan(batch)
	}
	if int(s.top) >= len(f.interfaces) && len(batch) > 0 {
		if fits, err := r.learn(s.top); !fits || err != nil {
			return 0, err
		}
	}
	if limit := r.room(); limit > 0 && r.w.Size()+s.bytes > limit {
		if n := r.w.Fit(batch, limit); n < len(batch) {
			if n == 0 && f.packets == 0 {
				n = 1
			}
			batch, reason = batch[:n], Size
			s = scan(batch)
		}
	}
	if len(batch) > 0 {
		if err := r.w.Write(batch); err != nil {
			return 0, err
		}
		f.first, f.last = min(f.first, s.first), max(f.last, s.last)
		f.packets += uint64(len(batch))
	}
	if reason != "" {
		r.end(reason)
	}
	return len(batch), nil
}

// scanned is what is known of a batch.
type scanned struct {
	first, last int64
	bytes       int64 // at most, in a file
	top         uint32
}

func scan(batch []packet.Packet) scanned {
	if len(batch) == 0 {
		return scanned{}
	}
	s := scanned{first: batch[0].Time, last: batch[0].Time}
	for i := range batch {
		p := &batch[i]
		s.bytes += int64(len(p.Data))
		s.first, s.last, s.top = min(s.first, p.Time), max(s.last, p.Time), max(s.top, p.Interface)
	}
	s.bytes += overhead * int64(len(batch))
	return s
}

// room is how large the file may become before its end is written; 0: any size.
func (r *Rotator) room() int64 {
	limit := r.opts.Config.Size.Bytes()
	if limit > 0 && r.file.format == pcapio.Pcapng {
		limit = max(limit/2, limit-int64(len(r.file.interfaces))*statsBytes-commentBytes)
	}
	return limit
}

// learn takes up interfaces that have appeared, and says whether packets of
// number top fit into the file now; otherwise they fit into the next.
func (r *Rotator) learn(top uint32) (fits bool, err error) {
	r.known = r.opts.Source.Interfaces()
	if int(top) >= len(r.known) {
		return false, fmt.Errorf("write packets: one of interface %d, of which the source has %d", top, len(r.known))
	}
	for _, i := range r.known[len(r.file.interfaces):] {
		if r.file.format == pcapio.Pcap && i.LinkType != r.file.interfaces[0].LinkType {
			r.end(Changed)
			return false, nil
		}
		if err := r.w.AddInterface(i); err != nil {
			return false, err
		}
		r.file.interfaces = append(r.file.interfaces, i)
	}
	return true, nil
}

// interval tells with which packet time the next file begins, and when, in
// monotonic time, that is at the latest.
func (r *Rotator) interval(t int64, since time.Duration) (until int64, over time.Duration) {
	length := int64(r.opts.Config.Interval)
	if length == 0 {
		return math.MaxInt64, math.MaxInt64
	}
	left := length
	if r.opts.Config.Aligned {
		left -= (t%length + length) % length
	}
	if t > math.MaxInt64-left {
		return math.MaxInt64, since + time.Duration(left)
	}
	return t + left, since + time.Duration(left)
}
