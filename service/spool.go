package service

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// partSuffix marks a file of the spool that is still being written.
const partSuffix = ".part"

// spool makes a new file in dir, named by pattern, that fill writes: .part, fsync,
// rename, fsync of the directory. Nothing stays behind when it fails.
func spool(dir, pattern string, fill func(*os.File) error) (path string, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("spool: %w", err)
	}
	f, err := os.CreateTemp(dir, pattern+partSuffix)
	if err != nil {
		return "", fmt.Errorf("spool: %w", err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
			err = fmt.Errorf("spool: %w", err)
		}
	}()
	if err := fill(f); err != nil {
		return "", err
	}
	if err := f.Sync(); err != nil {
		return "", err
	}
	if err := f.Close(); err != nil {
		return "", err
	}
	path = strings.TrimSuffix(f.Name(), partSuffix)
	if err := os.Rename(f.Name(), path); err != nil {
		return "", err
	}
	return path, syncDir(filepath.Dir(path))
}

// readerContext ends a copy between two reads when ctx is done.
type readerContext struct {
	ctx context.Context
	r   io.Reader
}

func (r readerContext) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}
