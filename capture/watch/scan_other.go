//go:build !linux

package watch

import (
	"io/fs"
	"os"
)

func openDir(path string) (*os.File, error) { return os.Open(path) }

func entryFacts(_ *os.File, entry fs.DirEntry) (facts, error) {
	info, err := entry.Info()
	if err != nil {
		return facts{}, err
	}
	return factsOf(info), nil
}
