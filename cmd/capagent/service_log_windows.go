package main

import (
	"errors"
	"os"
	"sync"
)

// rolling is a log file that is begun anew when it has a size; the one before is kept.
type rolling struct {
	path string
	most int64

	mu   sync.Mutex
	file *os.File
	size int64
}

func (r *rolling) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.open(int64(len(p))); err != nil {
		return 0, err
	}
	n, err := r.file.Write(p)
	r.size += int64(n)
	return n, err
}

// open has a file with room for n bytes.
func (r *rolling) open(n int64) error {
	if r.file != nil && r.size+n > r.most {
		err := r.file.Close()
		r.file = nil
		if err = errors.Join(err, os.Rename(r.path, r.path+".1")); err != nil {
			return err
		}
	}
	if r.file != nil {
		return nil
	}
	f, err := os.OpenFile(r.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	r.file, r.size = f, info.Size()
	return nil
}

func (r *rolling) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.file == nil {
		return nil
	}
	err := r.file.Close()
	r.file = nil
	return err
}
