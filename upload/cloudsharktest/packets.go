package cloudsharktest

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"capagent/internal/pcapio"
)

// Bounds of a page's look into a capture.
const (
	shownPackets  = 200
	seenPackets   = 10_000
	summaryBudget = 64 << 20 // bytes after unwrapping
)

// row is one packet as the page's table shows it.
type row struct {
	No                  int64
	Time                string // seconds since the first packet
	Source, Destination string
	Protocol, Class     string
	Length              uint32
	Info, Note          string
}

// protocol is a line of the page's count of protocols.
type protocol struct {
	Name, Class string
	Packets     int64
	Percent     int64
}

// summary is what the page says of a capture's packets.
type summary struct {
	Rows      []row
	Protocols []protocol
	Seen      int64 // packets that Protocols counts
	More      bool  // there are more packets than that
	Problem   string
}

// summarise reads the beginning of a capture. Nothing in it can make it fail:
// what cannot be read is said in Problem.
func summarise(r io.Reader, notes []Annotation) summary {
	var out summary
	payload, err := pcapio.Unwrap(r, pcapio.Budget{})
	if err != nil {
		out.Problem = "The packets cannot be read."
		return out
	}
	defer payload.Close()
	in, err := pcapio.NewReader(io.LimitReader(payload, summaryBudget))
	if err != nil {
		out.Problem = "The packets cannot be read."
		return out
	}
	texts := map[int64]string{}
	for _, n := range notes {
		texts[n.Frame] = n.Text
	}
	var (
		counts = map[string]*protocol{}
		p      pcapio.Packet
		first  int64
	)
	for out.Seen < seenPackets {
		if err := in.Next(&p); err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, pcapio.ErrTruncated) {
				out.Problem = fmt.Sprintf("Packets after number %d cannot be read.", out.Seen)
			}
			out.More = out.Problem == "" && payload.Size() >= summaryBudget
			break
		}
		if out.Seen == 0 {
			first = p.Time
		}
		out.Seen++
		line := dissect(p.Data, p.LinkType)
		c := counts[line.Protocol]
		if c == nil {
			c = &protocol{Name: line.Protocol, Class: line.Class}
			counts[line.Protocol] = c
		}
		c.Packets++
		if out.Seen > shownPackets {
			continue
		}
		line.No, line.Length, line.Note = out.Seen, p.OrigLen, texts[out.Seen]
		if !p.NoTime {
			line.Time = fmt.Sprintf("%.6f", float64(p.Time-first)/1e9)
		}
		out.Rows = append(out.Rows, line)
	}
	if out.Seen == seenPackets {
		out.More = in.Next(&p) == nil
	}
	for _, c := range counts {
		c.Percent = c.Packets * 100 / out.Seen
		out.Protocols = append(out.Protocols, *c)
	}
	slices.SortFunc(out.Protocols, func(a, b protocol) int {
		return cmp.Or(cmp.Compare(b.Packets, a.Packets), strings.Compare(a.Name, b.Name))
	})
	return out
}
