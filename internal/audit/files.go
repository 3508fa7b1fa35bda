package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

const archiveDigits = 12

func archiveName(first int64) string { return fmt.Sprintf("audit-%0*d.log", archiveDigits, first) }

// archiveSeq returns the number in the name of an archived log.
func archiveSeq(name string) (int64, bool) {
	digits, ours := strings.CutPrefix(name, "audit-")
	digits, log := strings.CutSuffix(digits, ".log")
	if !ours || !log || len(digits) != archiveDigits || strings.Trim(digits, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	return n, err == nil
}

// archives returns the names of the archived logs, the oldest first.
func archives(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir) // sorted, which is the order of the numbers
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if _, ours := archiveSeq(e.Name()); ours {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// openLog opens a file of the log. Nothing but a regular file is one, and what is
// not must not block.
func openLog(path string, flags int) (*os.File, int64, error) {
	info, err := os.Lstat(path)
	if err == nil && !info.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("open %q: not a regular file", path)
	}
	f, err := os.OpenFile(filepath.Clean(path), flags, 0o600)
	if err != nil {
		return nil, 0, err
	}
	if info, err = f.Stat(); err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}

// tail returns the last n bytes of a file that has size, from the beginning of a
// line on.
func tail(f *os.File, size, n int64) ([]byte, error) {
	at := max(0, size-n)
	b := make([]byte, size-at)
	if _, err := f.ReadAt(b, at); err != nil {
		return nil, err
	}
	if at > 0 {
		_, b, _ = bytes.Cut(b, []byte("\n"))
	}
	return b, nil
}
