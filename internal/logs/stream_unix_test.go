//go:build unix

package logs_test

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// streamOf returns what systemd would set as JOURNAL_STREAM if f were its
// stream.
func streamOf(t *testing.T, f *os.File) string {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}
