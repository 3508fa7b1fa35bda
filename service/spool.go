package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// spool writes r to a new file in dir: .part, fsync, rename, fsync of the
// directory. Nothing stays behind when it fails.
func spool(ctx context.Context, dir string, r io.Reader) (path string, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("spool: %w", err)
	}
	f, err := os.CreateTemp(dir, "stdin-*.pcap.part")
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
	n, err := io.Copy(f, readerContext{ctx, r})
	if err != nil {
		return "", err
	}
	if n == 0 {
		return "", errors.New("standard input: no bytes")
	}
	if err := f.Sync(); err != nil {
		return "", err
	}
	if err := f.Close(); err != nil {
		return "", err
	}
	path = strings.TrimSuffix(f.Name(), ".part")
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
