package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"capagent/internal/pcapio"

	"golang.org/x/sys/unix"
)

const (
	// The follower keeps this far behind: reading what was just written past the
	// page cache makes the writer wait, so that it would lose packets for it.
	behind     = 64 << 20
	punchEvery = 64 << 20 // bytes that are read before their room is given back
	tooFar     = 8 << 30  // bytes that the follower may be behind at most
)

// follower reads a capture file while it is written, and gives the disk its
// blocks back behind itself, so that an hour at full speed needs no terabyte.
type follower struct {
	dir    string
	cpu    int
	ended  <-chan struct{} // closed when nothing more is written
	packet func(time int64, data []byte)

	file         *os.File
	at, returned int64
}

// run reads to the end of what was written.
func (f *follower) run(ctx context.Context) error {
	runtime.LockOSThread() // bound: not for others any more
	if err := bind(f.cpu); err != nil {
		return err
	}
	if err := f.open(ctx); err != nil {
		return err
	}
	defer func() { _ = f.file.Close() }()
	r, err := pcapio.NewReader(f.reader(ctx))
	if err != nil {
		return err
	}
	var p pcapio.Packet
	for {
		if err := r.Next(&p); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		f.packet(p.Time, p.Data)
	}
}

// open waits for the file, under whatever name it is written.
func (f *follower) open(ctx context.Context) error {
	for last := false; ; {
		paths, err := filepath.Glob(filepath.Join(f.dir, "*"))
		if err != nil {
			return err
		}
		for _, path := range paths {
			if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Size() > 0 {
				f.file, err = os.OpenFile(path, os.O_RDWR, 0)
				return err
			}
		}
		if last {
			return fmt.Errorf("no capture in %s", f.dir)
		}
		if last, err = f.wait(ctx); err != nil {
			return err
		}
	}
}

// wait waits a little for more, and says whether no more comes.
func (f *follower) wait(ctx context.Context) (last bool, err error) {
	select {
	case <-ctx.Done():
		return false, ctx.Err()
	case <-f.ended:
		return true, nil
	case <-time.After(20 * time.Millisecond):
		return false, nil
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func (f *follower) reader(ctx context.Context) io.Reader {
	last := false
	limit := int64(0) // to where it may be read
	return readerFunc(func(p []byte) (int, error) {
		for f.at >= limit {
			info, err := f.file.Stat()
			if err != nil {
				return 0, err
			}
			limit = info.Size()
			if last {
				break
			}
			if limit -= behind; limit-f.at > tooFar {
				return 0, fmt.Errorf("reading the file is %d GB behind its writer", (limit-f.at)>>30)
			}
			if f.at >= limit {
				if last, err = f.wait(ctx); err != nil {
					return 0, err
				}
			}
		}
		n, err := f.file.ReadAt(p[:max(0, min(int64(len(p)), limit-f.at))], f.at)
		if f.at += int64(n); f.at == limit && last {
			return n, io.EOF
		}
		return n, errors.Join(err, f.giveBack())
	})
}

func (f *follower) giveBack() error {
	n := f.at - f.returned
	if n < punchEvery {
		return nil
	}
	if err := unix.Fallocate(int(f.file.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, f.returned, n); err != nil {
		return fmt.Errorf("give room back: %w", err)
	}
	f.returned += n
	return nil
}
