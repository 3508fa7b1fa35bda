package pcapfile

import (
	"fmt"
	"os"

	"capagent/internal/quote"
	"capagent/internal/safefile"
)

// Create makes a file for Begin that only its owner may read. A file that is
// there already is an error, or with replace is emptied when it is a regular
// one: no link is followed.
func Create(path string, replace bool) (*os.File, error) {
	flags := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if replace {
		flags = os.O_WRONLY | os.O_CREATE | noFollow
	}
	f, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", quote.Path(path), safefile.Cause(err))
	}
	if !replace {
		return f, nil
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%w (%s)", safefile.ErrNotRegular, safefile.Describe(info.Mode()))
	}
	if err == nil {
		err = f.Truncate(0)
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("create %s: %w", quote.Path(path), safefile.Cause(err))
	}
	return f, nil
}
