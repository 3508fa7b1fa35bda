package rotate

import (
	"crypto/sha256"
	"fmt"
	"math"
	"os"
	"strings"

	"capagent/internal/packet"
	"capagent/internal/pcapio"
)

// input is a segment that is read.
type input struct {
	Input
	m     *merger
	name  string
	order int
	first int64 // no packet comes before

	f        *os.File
	r        *pcapio.Reader
	head     pcapio.Packet // the next one
	sections int
	about    pcapio.Section // the first section
	numbers  []int          // of the section's interfaces, in merger.all
	secrets  []secret       // not written yet
	held     int            // bytes of them
}

// secret is a block of secrets.
type secret struct {
	kind uint32
	data []byte
}

// kind is what makes interfaces the same.
type kind struct {
	name, filter string
	link         int
	snap         uint32
}

// merged is an interface of several segments.
type merged struct {
	packet.Interface
	os, hardware string
	number       int // in the file; -1: it isn't there
	stats        pcapio.Stats
	said         map[string]bool // lines of the comment
	comment      strings.Builder
}

func (in *input) section(s pcapio.Section) {
	if in.sections == 0 {
		in.about = s
	}
	in.sections++
	in.numbers = in.numbers[:0]
}

func (in *input) describe(i pcapio.Interface) {
	if in.r.Format() == pcapio.Pcap {
		in.numbers = in.numbers[:0]
	}
	if i.Name == "" {
		i.Name = in.name
	}
	m := in.m
	k := kind{name: i.Name, filter: i.Filter, link: i.LinkType, snap: i.SnapLen}
	n, known := m.index[k]
	switch {
	case known:
	case len(m.all) == mostInterfaces:
		n = -1
		in.fail(fmt.Errorf("more than %d interfaces in all segments", mostInterfaces))
	default:
		n = len(m.all)
		m.index[k] = n
		m.all = append(m.all, merged{
			Interface: packet.Interface{
				Name: i.Name, Description: i.Description, LinkType: i.LinkType, SnapLen: i.SnapLen, Filter: i.Filter, MAC: i.MAC, Speed: i.Speed,
			},
			os: i.OS, hardware: i.Hardware, number: -1,
			stats: pcapio.Stats{Received: -1, Dropped: -1, OSDrop: -1, Accepted: -1},
		})
	}
	in.numbers = append(in.numbers, n)
}

func (in *input) secret(kind uint32, data []byte) {
	if in.held += len(data); in.held > mostSecrets {
		in.fail(fmt.Errorf("secrets of more than %d bytes", mostSecrets))
		return
	}
	in.secrets = append(in.secrets, secret{kind: kind, data: append([]byte(nil), data...)})
}

// stats adds up what a segment says in its end.
func (in *input) stats(number int, s pcapio.Stats) {
	if in.Packets == 0 || number >= len(in.numbers) || in.numbers[number] < 0 {
		return
	}
	i := &in.m.all[in.numbers[number]]
	sum := &i.stats
	add := func(to *int64, n int64) {
		if n >= 0 {
			*to = max(0, *to) + n
		}
	}
	add(&sum.Received, s.Received)
	add(&sum.Dropped, s.Dropped)
	add(&sum.OSDrop, s.OSDrop)
	add(&sum.Accepted, s.Accepted)
	if s.Start > 0 && (sum.Start == 0 || s.Start < sum.Start) {
		sum.Start = s.Start
	}
	sum.End, sum.Time = max(sum.End, s.End), max(sum.Time, s.Time)
	for line := range strings.SplitSeq(s.Comment, "\n") {
		if line == "" || i.said[line] || i.comment.Len()+len(line) >= commentBytes {
			continue
		}
		if i.said == nil {
			i.said = map[string]bool{}
		}
		i.said[line] = true
		if i.comment.Len() > 0 {
			i.comment.WriteByte('\n')
		}
		i.comment.WriteString(line)
	}
}

// take writes the segment's next packet.
func (m *merger) take(in *input) error {
	p := &in.head
	if p.Interface >= len(in.numbers) || in.numbers[p.Interface] < 0 {
		in.Passed++ // of an interface that was too much
		return nil
	}
	if m.done.Packets == 0 {
		if err := m.begin(in); err != nil {
			return err
		}
	}
	i := &m.all[in.numbers[p.Interface]]
	if err := m.add(i); err != nil {
		return err
	}
	if err := m.tellSecrets(in); err != nil {
		return err
	}
	var err error
	if m.ng != nil {
		err = m.ng.WritePacket(i.number, max(p.Time, 0), p.Data, p.OrigLen, "")
	} else {
		err = m.pcap.WritePacket(min(max(p.Time, 0), pcapLast), p.Data, p.OrigLen)
	}
	if err != nil {
		return err
	}
	if m.done.Packets == 0 {
		m.first, m.last = p.Time, p.Time
	}
	m.first, m.last = min(m.first, p.Time), max(m.last, p.Time)
	m.done.Packets++
	in.Packets++
	return nil
}

// pcapLast is the last time that pcap can hold.
const pcapLast = math.MaxUint32*1e9 + 999_999_999

// begin writes the file's header.
func (m *merger) begin(in *input) (err error) {
	s := m.o.Section
	or := func(to *string, other string) {
		if *to == "" {
			*to = other
		}
	}
	or(&s.Comment, in.about.Comment)
	or(&s.Hardware, in.about.Hardware)
	or(&s.OS, in.about.OS)
	or(&s.Application, in.about.Application)
	switch m.o.Format {
	case pcapio.Pcapng:
		m.ng, err = pcapio.NewPcapngWriter(m.buf, s)
	case pcapio.Pcap:
		m.link = m.all[in.numbers[in.head.Interface]].LinkType
		m.pcap, err = pcapio.NewPcapWriter(m.buf, pcapio.PcapOptions{LinkType: m.link})
	default:
		err = fmt.Errorf("%q is no format to write", m.o.Format)
	}
	return err
}

// add describes an interface that the file does not have yet.
func (m *merger) add(i *merged) (err error) {
	switch {
	case i.number >= 0:
		return nil
	case m.ng == nil && i.LinkType != m.link:
		return fmt.Errorf("pcap can't hold interfaces of two link types, %s and %s: use pcapng",
			pcapio.LinkTypeName(m.link), pcapio.LinkTypeName(i.LinkType))
	case m.ng == nil:
		i.number = len(m.done.Interfaces)
	default:
		i.number, err = m.ng.AddInterface(pcapio.Interface{
			Name: i.Name, Description: i.Description, Filter: i.Filter, OS: i.os, Hardware: i.hardware,
			LinkType: i.LinkType, SnapLen: i.SnapLen, MAC: i.MAC, Speed: i.Speed,
		})
	}
	m.done.Interfaces = append(m.done.Interfaces, i.Interface)
	return err
}

// tellSecrets writes what opens the segment's packets from here on.
func (m *merger) tellSecrets(in *input) error {
	for _, s := range in.secrets {
		sum := sha256.Sum256(s.data)
		if m.ng == nil || m.secrets[sum] {
			continue
		}
		if m.secrets == nil {
			m.secrets = map[[sha256.Size]byte]bool{}
		}
		m.secrets[sum] = true
		if err := m.ng.WriteSecrets(s.kind, s.data); err != nil {
			return err
		}
	}
	in.secrets, in.held = nil, 0
	return nil
}

// end writes what the segments' ends have said.
func (m *merger) end() error {
	for n := range m.all {
		i := &m.all[n]
		i.stats.Comment = i.comment.String()
		if i.number < 0 && i.stats.Comment == "" && max(i.stats.Dropped, i.stats.OSDrop) <= 0 {
			continue
		}
		if m.ng != nil {
			if err := m.add(i); err != nil {
				return err
			}
			if i.stats.Time == 0 {
				i.stats.Time = m.done.Last.UnixNano()
			}
			if err := m.ng.WriteStats(i.number, i.stats); err != nil {
				return err
			}
		}
	}
	m.done.Stats = make([]pcapio.Stats, len(m.done.Interfaces))
	for n := range m.all {
		if i := &m.all[n]; i.number >= 0 {
			m.done.Stats[i.number] = i.stats
		}
	}
	return m.buf.Flush()
}
