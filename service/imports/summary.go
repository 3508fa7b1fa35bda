package imports

import (
	"fmt"
	"time"

	"github.com/dustin/go-humanize"

	"capagent/internal/ledger"
)

// PreviewLimit is the number of packets above which CloudShark opens a session
// in preview mode only, with most analysis tools off (contracts/cloudshark.md 1.5).
const PreviewLimit = 100_000

// Summary counts what an import met.
type Summary struct {
	Files      int   // everything that is not a directory
	Captures   int   // files understood as captures
	Bytes      int64 // of the captures
	Packets    int64
	First      time.Time
	Last       time.Time
	Sessions   int // captures that have a session, duplicates left out
	Duplicates int // captures whose content another file has too
	Empty      int
	Truncated  int
	Queued     int // still to be sent
	New        int // dry run: would be sent
	NewBytes   int64
	Failed     int
	Skipped    int
	Preview    int // captures above PreviewLimit that are not split
	Split      int // captures over a configured limit: uploaded in parts
}

// Limits are the configured max_packets and max_size; 0 is none.
type Limits struct{ Packets, Bytes int64 }

// Summarize counts entries.
func Summarize(entries []Entry, limits Limits) Summary {
	s := Summary{Files: len(entries)}
	seen := map[string]bool{}
	for _, e := range entries {
		s.add(e, seen)
		switch {
		case e.Packets == 0:
		case limits.Packets > 0 && e.Packets > limits.Packets, limits.Bytes > 0 && e.PayloadSize > limits.Bytes:
			s.Split++
		case e.Packets > PreviewLimit:
			s.Preview++
		}
	}
	return s
}

func (s *Summary) add(e Entry, seen map[string]bool) {
	switch {
	case e.State == Skipped:
		s.Skipped++
		return
	case e.Failure != nil && e.State != ledger.Queued:
		s.Failed++
	case e.State == ledger.Queued:
		s.Queued++
	}
	if e.State == Unreadable || e.State == ledger.Quarantined {
		return
	}
	s.Captures++
	s.Bytes += e.Size
	s.Packets += e.Packets
	s.span(e)
	if e.Truncated {
		s.Truncated++
	}
	switch {
	case e.Packets == 0:
		s.Empty++
	case seen[e.SHA256]:
		s.Duplicates++
	case e.SessionID != "":
		s.Sessions++
	case e.State == New:
		s.New++
		s.NewBytes += e.Size
	}
	seen[e.SHA256] = true
}

func (s *Summary) span(e Entry) {
	if e.First.IsZero() {
		return
	}
	if s.First.IsZero() || e.First.Before(s.First) {
		s.First = e.First
	}
	if e.Last.After(s.Last) {
		s.Last = e.Last
	}
}

// Lines says it for people.
func (s Summary) Lines(dryRun bool) []string {
	lines := []string{fmt.Sprintf("%d files: %d captures, %s, %d packets", s.Files, s.Captures, humanize.IBytes(uint64(s.Bytes)), s.Packets)}
	if !s.First.IsZero() {
		lines = append(lines, fmt.Sprintf("  from %s to %s", s.First.UTC().Format(time.RFC3339), s.Last.UTC().Format(time.RFC3339)))
	}
	put := func(n int, text string) {
		if n > 0 {
			lines = append(lines, fmt.Sprintf("  %6d %s", n, text))
		}
	}
	put(s.Sessions, "in CloudShark")
	put(s.New, fmt.Sprintf("to upload (%s)", humanize.IBytes(uint64(s.NewBytes))))
	put(s.Duplicates, "with the same content as another file, uploaded once")
	put(s.Empty, "without a packet, not uploaded")
	put(s.Truncated, "cut off at the end, counted to the last whole packet")
	put(s.Split, "over max_packets or max_size, uploaded in parts")
	put(s.Preview, fmt.Sprintf("over %d packets: CloudShark opens them as a preview; [cloudshark] max_packets splits them", PreviewLimit))
	put(s.Queued, "still queued")
	put(s.Failed, "failed")
	put(s.Skipped, "other files, not looked into")
	if dryRun {
		lines = append(lines, "dry run: nothing was sent or recorded")
	}
	return lines
}
