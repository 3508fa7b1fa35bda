package rotate

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"capagent/internal/packet"
	"capagent/internal/pcapio"
	"capagent/internal/quote"
	"capagent/internal/safefile"
)

// Segment is a file that Window reads and leaves as it is.
type Segment struct {
	Path string
	// First is the earliest of its packets' times, as Sealed says it. When it is
	// zero the time of the file's first packet is taken.
	First time.Time
	// Name is what an interface without a name is called: those of pcap files.
	Name string
}

// WindowOptions say what Window takes.
type WindowOptions struct {
	Segments []Segment
	From, To time.Time      // of the packets, both included; zero: from the first, to the last
	Format   pcapio.Format  // "": pcapng
	Section  pcapio.Section // what is empty is taken from the first segment
}

// Windowed is what Window made.
type Windowed struct {
	Packets     uint64 // 0: nothing was written at all
	Size        int64
	First, Last time.Time
	Interfaces  []packet.Interface // those with packets, drops or gaps
	Stats       []pcapio.Stats     // of each interface, in the whole segments that gave a packet; -1: not known
	Inputs      []Input            // one for each segment
}

// Input is what came of a segment.
type Input struct {
	Path    string
	Packets uint64 // taken
	Passed  uint64 // outside of the window, or without a time, or of more than 1 MiB
	// Err is what kept the rest of the segment from being read; what came before
	// it is taken.
	Err error
}

const (
	// mostOpen bounds how many segments of one time are read at once.
	mostOpen = 256
	// mostSecrets bounds the bytes of key logs that are held of a segment.
	mostSecrets = 4 << 20
	// mostInterfaces bounds what a hostile segment makes Window remember.
	mostInterfaces = 4096
)

// Window merges segments into one capture of the packets between two times, in
// the order of time as far as each segment has it. Interfaces of the same name,
// link type, filter and snapshot length become one; what the segments' ends say
// of drops and gaps is added up. A segment that is damaged gives what can be
// read. Comments on packets and resolved names are left out.
//
// Memory is bounded by the segments that overlap in time, about 256 KiB each, 256
// of them at most. The error is one of out, of ctx, of link types that the pcap
// format can't hold together, or of too many segments.
func Window(ctx context.Context, out io.Writer, o WindowOptions) (Windowed, error) {
	if o.Format == "" {
		o.Format = pcapio.Pcapng
	}
	m := &merger{ctx: ctx, o: o, from: math.MinInt64, to: math.MaxInt64, index: map[kind]int{}}
	m.buf = bufio.NewWriterSize(&m.sized, 256<<10)
	m.sized.w = out
	if !o.From.IsZero() {
		m.from = o.From.UnixNano()
	}
	if !o.To.IsZero() {
		m.to = o.To.UnixNano()
	}
	defer m.close()
	err := m.run()
	if m.done.Packets > 0 {
		m.done.First, m.done.Last = at(m.first), at(m.last)
	}
	if err == nil && m.done.Packets > 0 {
		err = m.end()
	}
	m.done.Size = m.sized.n
	for i := range m.inputs {
		m.done.Inputs = append(m.done.Inputs, m.inputs[i].Input)
	}
	if err != nil {
		return m.done, fmt.Errorf("merge segments: %w", err)
	}
	return m.done, nil
}

// merger is a Window on its way.
type merger struct {
	ctx      context.Context
	o        WindowOptions
	from, to int64
	inputs   []*input // in the order of the segments
	waiting  []*input // not open yet, by first
	open     []*input
	done     Windowed
	first    int64
	last     int64

	sized sized
	buf   *bufio.Writer
	ng    *pcapio.PcapngWriter // nil: pcap, or nothing written
	pcap  *pcapio.PcapWriter
	link  int // of pcap
	index map[kind]int
	all   []merged // interfaces
	// secrets are those that were written, by their hashes.
	secrets map[[sha256.Size]byte]bool
}

type sized struct {
	w io.Writer
	n int64
}

func (s *sized) Write(b []byte) (int, error) {
	n, err := s.w.Write(b)
	s.n += int64(n)
	return n, err
}

func (m *merger) run() error {
	for i, s := range m.o.Segments {
		in := &input{Input: Input{Path: s.Path}, m: m, name: s.Name, order: i}
		m.inputs = append(m.inputs, in)
		if !s.First.IsZero() {
			in.first = s.First.UnixNano()
		} else if !in.probe() {
			continue
		}
		m.waiting = append(m.waiting, in)
	}
	slices.SortStableFunc(m.waiting, func(a, b *input) int { return cmpTime(a.first, b.first) })
	for {
		if err := m.admit(); err != nil {
			return err
		}
		if len(m.open) == 0 || m.ctx.Err() != nil {
			return m.ctx.Err()
		}
		if err := m.drain(); err != nil {
			return err
		}
	}
}

// admit opens the segments whose time has come: all that may have the next packet.
func (m *merger) admit() error {
	for len(m.waiting) > 0 {
		if in := m.least(); in != nil && in.head.Time < m.waiting[0].first {
			return nil
		}
		in := m.waiting[0]
		m.waiting = m.waiting[1:]
		if !in.start() {
			continue
		}
		if len(m.open) == mostOpen {
			in.close()
			return fmt.Errorf("more than %d segments of one time", mostOpen)
		}
		m.open = append(m.open, in)
	}
	return nil
}

// least is the open segment with the next packet.
func (m *merger) least() (least *input) {
	for _, in := range m.open {
		if least == nil || in.before(least) {
			least = in
		}
	}
	return least
}

// drain takes packets from one segment until another one is next.
func (m *merger) drain() error {
	in := m.least()
	var next *input
	for _, other := range m.open {
		if other != in && (next == nil || other.before(next)) {
			next = other
		}
	}
	for n := 0; ; n++ {
		if n%1024 == 0 && m.ctx.Err() != nil {
			return m.ctx.Err()
		}
		if err := m.take(in); err != nil {
			return err
		}
		if !in.advance() {
			m.open = slices.DeleteFunc(m.open, func(i *input) bool { return i == in })
			in.close()
			return nil
		}
		if next != nil && next.before(in) || len(m.waiting) > 0 && in.head.Time >= m.waiting[0].first {
			return nil
		}
	}
}

func (m *merger) close() {
	for _, in := range m.open {
		in.close()
	}
}

func cmpTime(a, b int64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	default:
		return 0
	}
}

// probe finds out when a segment's first packet of the window comes. It is false
// when there is none.
func (in *input) probe() bool {
	defer in.close()
	if !in.open() || !in.advance() {
		return false
	}
	in.first, in.Passed = in.head.Time, 0
	return true
}

// start opens a segment and reads up to its first packet of the window. It is
// false when there is none.
func (in *input) start() bool {
	if in.open() {
		in.r.Describe(pcapio.Described{Section: in.section, Interface: in.describe, Stats: in.stats, Secrets: in.secret})
		if in.r.Format() == pcapio.Pcap {
			in.describe(pcapio.Interface{LinkType: in.r.LinkTypes()[0], SnapLen: in.r.SnapLen()})
		}
		if in.advance() {
			return true
		}
	}
	in.close()
	return false
}

func (in *input) open() bool {
	f, _, err := safefile.Open(in.Path)
	if err != nil {
		in.fail(err)
		return false
	}
	in.f = f
	if in.r, err = pcapio.NewReader(f); err != nil {
		in.fail(err)
		return false
	}
	return true
}

// advance reads the next packet of the window.
func (in *input) advance() bool {
	for {
		p := &in.head
		err := in.r.Next(p)
		switch {
		case errors.Is(err, io.EOF):
			return false
		case err != nil:
			in.fail(err)
			return false
		case p.NoTime, p.Time < in.m.from, p.Time > in.m.to, len(p.Data) != int(p.CapLen):
			in.Passed++
			if in.Passed%65536 == 0 && in.m.ctx.Err() != nil {
				return false // which is told by others
			}
		default:
			return true
		}
	}
}

func (in *input) fail(err error) {
	if in.Err == nil {
		in.Err = fmt.Errorf("read %s: %w", quote.Path(in.Path), safefile.Cause(err))
	}
}

func (in *input) close() {
	if in.f != nil {
		_ = in.f.Close()
	}
	in.f, in.r = nil, nil
}

func (in *input) before(other *input) bool {
	return in.head.Time < other.head.Time || in.head.Time == other.head.Time && in.order < other.order
}
