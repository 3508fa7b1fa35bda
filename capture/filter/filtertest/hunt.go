package filtertest

import (
	"math/rand/v2"

	"capagent/capture/filter"
)

// seed is a packet that made one of the programs go a new way.
type seed struct {
	frame        Frame
	theirs, ours []test
}

// hunter looks for a packet about which two programs disagree.
type hunter struct {
	pair         *Pair
	r            *rand.Rand
	packets      *Packets
	seeds        []seed
	theirs, ours cover
}

// Hunt makes n packets for the pair and tries them until there is a disagreement.
// It returns how many were tried and how many libpcap's program takes.
func (p *Pair) Hunt(r *rand.Rand, n int) (tried, taken int, d *Disagreement) {
	h := hunter{pair: p, r: r, packets: NewPackets(r, p.LinkType, p.Expr), theirs: cover{}, ours: cover{}}
	defer func() { p.Jumps, p.Gone = ways(p.Theirs), h.theirs.count() }()
	for tried < n {
		f := h.next(tried)
		if p.Target == filter.LiveCooked && !cooked(&f, p.LinkType) {
			continue
		}
		yes, bad := h.offer(f)
		tried++
		if yes {
			taken++
		}
		if bad != nil {
			return tried, taken, bad
		}
	}
	return tried, taken, nil
}

// offer tries f and keeps it as a seed if it went a new way. It returns whether
// libpcap's program takes it.
func (h *hunter) offer(f Frame) (bool, *Disagreement) {
	s := seed{frame: f}
	yes, bad := h.pair.try(f, &s)
	fresh := h.theirs.add(s.theirs)
	if h.ours.add(s.ours) || fresh || len(h.seeds) == 0 {
		h.seeds = append(h.seeds, s)
	}
	return yes, bad
}

// next is a new packet, or one of the seeds changed.
func (h *hunter) next(i int) Frame {
	if i%6 == 0 || len(h.seeds) == 0 {
		f := h.packets.Frame()
		if real := h.pair.Real; len(real) > 0 && chance(h.r, 40) {
			f = one(h.r, real...)
			f.Data = append([]byte(nil), f.Data...)
		}
		if h.pair.Target == filter.Live {
			f = h.packets.Taken(f)
		}
		return f
	}
	// The newest seeds went furthest.
	at := len(h.seeds) - 1 - h.r.IntN(len(h.seeds))*h.r.IntN(3)/2
	return h.change(h.seeds[max(0, at)])
}

func (h *hunter) change(s seed) Frame {
	f := s.frame
	f.Data = append([]byte(nil), f.Data...)
	if f.Aux != nil {
		a := *f.Aux
		f.Aux = &a
	}
	n := h.r.IntN(100)
	cover, tests := h.theirs, s.theirs
	if h.r.IntN(2) == 0 && h.pair.Target != filter.LiveCooked {
		cover, tests = h.ours, s.ours
	}
	if t, ok := cover.choose(h.r, tests); ok && n < 82 {
		t.steer(h.r, &f)
		return f
	}
	switch {
	case n%3 == 0 && len(f.Data) > 0:
		f.Data[h.r.IntN(len(f.Data))] = byte(h.r.Uint32())
	case n%3 == 1:
		f.Data = f.Data[:h.r.IntN(len(f.Data)+1)]
	default:
		f.Length = max(uint32(len(f.Data)), h.r.Uint32()>>(12+h.r.IntN(20)))
	}
	return f
}
