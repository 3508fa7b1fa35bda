package safefile

import (
	"fmt"
	"os"
)

func open(path string) (*os.File, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("open %q: %w (%s)", path, ErrNotRegular, Describe(info.Mode()))
	}
	return os.Open(path)
}
