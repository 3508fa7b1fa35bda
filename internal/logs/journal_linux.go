package logs

import (
	"fmt"
	"io"
	"os"

	sdjournal "github.com/coreos/go-systemd/v22/journal"
	"github.com/rs/zerolog/journald"
	"golang.org/x/sys/unix"
)

// isJournal says whether f is the stream that systemd named in JOURNAL_STREAM,
// "<device>:<inode>". A child that was given another stderr inherits the
// variable all the same, so the file decides.
func isJournal(stream string, f *os.File) bool {
	var st unix.Stat_t
	if stream == "" || unix.Fstat(int(f.Fd()), &st) != nil {
		return false
	}
	return stream == fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}

// journal returns a writer to the local journal, nil when none listens.
func journal() io.Writer {
	if !sdjournal.Enabled() {
		return nil
	}
	return journald.NewJournalDWriter()
}
