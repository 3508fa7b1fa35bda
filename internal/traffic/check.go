package traffic

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"capagent/internal/pcapio"
)

// Result is what capture files hold of a Load.
type Result struct {
	Packets     uint64 // numbered ones, doubled ones included
	Other       uint64 // without a number: not sent by Send, or cut before it
	Distinct    uint64 // different numbers
	First, Last uint64 // smallest and largest number
	Lost        uint64 // numbers missing between First and Last; see Missing
	Doubled     uint64 // packets whose number was there before
	Disordered  uint64 // packets with a number below that of an earlier one in the same file
	TimeBack    uint64 // packets with a time before that of the one ahead of them
	Bytes       uint64 // captured bytes of all packets
}

// Missing is how many of the packets that were sent are in no file, those before
// First and after Last included.
func (r Result) Missing(sent uint64) uint64 {
	if r.Distinct >= sent {
		return 0
	}
	return sent - r.Distinct
}

// Check reads capture files, pcap or pcapng, to their ends. A file that is
// damaged or cut short is an error, beside what was read of it.
func Check(paths ...string) (Result, error) {
	var c Checker
	for _, path := range paths {
		if err := c.File(path); err != nil {
			return c.Result(), err
		}
	}
	return c.Result(), nil
}

// Checker takes packets from several places. Its zero value is ready.
type Checker struct {
	sum  Result
	seen numbers
	// Of the file that is being read:
	most uint64 // number
	any  bool   // a number was seen
	time int64  // of the packet before
}

// Result is what was seen so far.
func (c *Checker) Result() Result {
	r := c.sum
	if r.Distinct > 0 {
		r.Lost = r.Last - r.First + 1 - r.Distinct
	}
	return r
}

// File takes the packets of a pcap or pcapng file.
func (c *Checker) File(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if err := c.Reader(f); err != nil {
		return fmt.Errorf("check %s: %w", path, err)
	}
	return nil
}

// Reader takes the packets of a pcap or pcapng file.
func (c *Checker) Reader(f io.Reader) error {
	r, err := pcapio.NewReader(f)
	if err != nil {
		return err
	}
	c.Begin()
	var p pcapio.Packet
	for {
		if err := r.Next(&p); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		c.Packet(p.Time, p.Data)
	}
}

// Begin says that the packets that follow are of another file: they need not be
// in order with those before.
func (c *Checker) Begin() { c.most, c.any, c.time = 0, false, 0 }

// Packet takes one packet: its time in nanoseconds since 1970 and what was
// captured of it.
func (c *Checker) Packet(time int64, data []byte) {
	c.sum.Bytes += uint64(len(data))
	if time < c.time {
		c.sum.TimeBack++
	}
	c.time = time
	n, ok := Number(data)
	if !ok {
		c.sum.Other++
		return
	}
	if c.any && n < c.most {
		c.sum.Disordered++
	}
	c.any, c.most = true, max(c.most, n)
	c.sum.Packets++
	if !c.seen.add(n) {
		c.sum.Doubled++
		return
	}
	if c.sum.Distinct++; c.sum.Distinct == 1 {
		c.sum.First = n
	}
	c.sum.First, c.sum.Last = min(c.sum.First, n), max(c.sum.Last, n)
}

// Number is the number of a packet that Send sent, false for any other. It looks
// where most frames have it, and then where tags or another link layer may have
// moved it.
func Number(data []byte) (uint64, bool) {
	if len(data) < headBytes || string(data[markAt:numberAt]) != magic {
		head := data[:min(len(data), 160)]
		at := bytes.Index(head, []byte(magic))
		if at < 0 || at+16 > len(data) {
			return 0, false
		}
		return binary.BigEndian.Uint64(data[at+8:]), true
	}
	return binary.BigEndian.Uint64(data[numberAt:]), true
}

// numbers is a set of them, in pieces of 65536. It grows with what is put into
// it, whatever the numbers are.
type numbers struct {
	pieces map[uint64]*piece
	last   *piece
	lastAt uint64
}

type piece [1024]uint64

// add says whether n is new.
func (s *numbers) add(n uint64) bool {
	at := n >> 16
	if s.last == nil || at != s.lastAt {
		if s.pieces == nil {
			s.pieces = map[uint64]*piece{}
		}
		p := s.pieces[at]
		if p == nil {
			p = new(piece)
			s.pieces[at] = p
		}
		s.last, s.lastAt = p, at
	}
	word, bit := &s.last[n>>6&1023], uint64(1)<<(n&63)
	if *word&bit != 0 {
		return false
	}
	*word |= bit
	return true
}
