package retention

import (
	"fmt"

	"github.com/dustin/go-humanize"

	"capagent/internal/ledger"
)

// Report is what a Sweep did and what it could not do.
type Report struct {
	Purged int   // captures whose file is gone by this sweep
	Freed  int64 // bytes of those that were there
	Owned  ledger.Count
	// OverSize and ShortFree are the bytes by which max_size and min_free are
	// missed, ShortFiles the files that can't be made, because what is left is
	// still needed.
	OverSize, ShortFree, ShortFiles int64
	// Problem says so for people, "" when there is nothing to say.
	Problem string
}

// Over says that a limit could not be met.
func (r Report) Over() bool { return r.OverSize > 0 || r.ShortFree > 0 || r.ShortFiles > 0 }

// problem says what is missing and why.
func (s *sweep) problem() string {
	r, text := s.report, ""
	switch {
	case r.OverSize > 0:
		text = fmt.Sprintf("the spool is over max_size (%s) by %s", s.Config.MaxSize, humanize.IBytes(uint64(r.OverSize)))
	case r.ShortFree > 0:
		text = fmt.Sprintf("the disk is %s short of min_free (%s)", humanize.IBytes(uint64(r.ShortFree)), s.Config.MinFree)
	case r.ShortFiles > 0:
		text = "the disk has no room for more files"
	default:
		return ""
	}
	switch stuck := int64(len(s.stuck)); {
	case r.Owned.Captures == 0:
		return text + ", and none of it is the agent's to delete"
	case stuck >= r.Owned.Captures:
		return fmt.Sprintf("%s, and %d captures can't be deleted: see the log", text, stuck)
	default:
		return fmt.Sprintf("%s, but %d captures are not sent yet: nothing is deleted", text, r.Owned.Captures-stuck)
	}
}
