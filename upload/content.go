package upload

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	"capagent/internal/failure"
	"capagent/internal/ledger"
	"capagent/internal/pcapio"
	"capagent/internal/safefile"
)

var errChanged = errors.New("the file is no longer what was inspected")

// open opens the capture's file and looks whether it can still be the same.
func open(c *ledger.Capture) (*os.File, error) {
	f, info, err := safefile.Open(c.Path)
	if err != nil {
		return nil, unreadable(err)
	}
	if info.Size() != c.Size {
		_ = f.Close()
		return nil, fail(ClassChanged, fmt.Errorf("%w: it has %d bytes, not %d", errChanged, info.Size(), c.Size))
	}
	return f, nil
}

// content is the bytes of one part, checked while they are read: the read that
// would hand out the last byte fails unless all of them have the right hash.
type content struct {
	src     io.Reader
	closers closers
	hash    hash.Hash
	want    string
	left    int64
	file    *os.File
	size    int64 // of the file
	onBytes func(int64)
}

func openContent(ctx context.Context, c *ledger.Capture, p *ledger.Part, onBytes func(int64)) (*content, error) {
	f, err := open(c)
	if err != nil {
		return nil, err
	}
	out := &content{
		closers: closers{f}, hash: sha256.New(), want: p.SHA256, left: p.Size,
		file: f, size: c.Size, onBytes: onBytes,
	}
	var payload io.Reader
	if c.Wrapper == "" {
		payload = io.NewSectionReader(f, p.Offset, c.Size-p.Offset)
	} else {
		unwrapped, err := pcapio.Unwrap(f, pcapio.Budget{})
		if err != nil {
			_ = f.Close()
			return nil, fail(ClassUnreadable, err)
		}
		out.closers = append(out.closers, unwrapped)
		if _, err := io.CopyN(io.Discard, &interruptible{ctx, unwrapped}, p.Offset); err != nil {
			_ = out.Close()
			return nil, sourceError(err)
		}
		payload = unwrapped
	}
	out.src = payload
	if len(p.Prefix) > 0 {
		out.src = io.MultiReader(bytes.NewReader(p.Prefix), payload)
	}
	return out, nil
}

func (c *content) Read(p []byte) (int, error) {
	if c.left == 0 {
		return 0, io.EOF
	}
	n, err := c.src.Read(p[:min(int64(len(p)), c.left)])
	_, _ = c.hash.Write(p[:n])
	c.left -= int64(n)
	if c.left == 0 {
		if err := c.check(); err != nil {
			return 0, err
		}
	} else if err != nil {
		return 0, sourceError(err)
	}
	if c.onBytes != nil && n > 0 {
		c.onBytes(int64(n))
	}
	return n, nil
}

func (c *content) check() error {
	if hex.EncodeToString(c.hash.Sum(nil)) != c.want {
		return fail(ClassChanged, fmt.Errorf("%w: its SHA-256 differs", errChanged))
	}
	if info, err := c.file.Stat(); err == nil && info.Size() != c.size {
		return fail(ClassChanged, fmt.Errorf("%w: it has %d bytes, not %d", errChanged, info.Size(), c.size))
	}
	return nil
}

func (c *content) Close() error { return c.closers.Close() }

// sourceError tells a file that became something else from one that can't be read.
func sourceError(err error) error {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fail(ClassChanged, fmt.Errorf("%w: it ends early", errChanged))
	case errors.Is(err, pcapio.ErrFormat), errors.Is(err, pcapio.ErrOverBudget), errors.Is(err, pcapio.ErrNotCapture):
		return fail(ClassChanged, fmt.Errorf("%w: %w", errChanged, err))
	default:
		return unreadable(err)
	}
}

// unreadable parks a capture whose file is gone or closed to us; where the
// machine is in the way (its disk, its limits) it is tried again.
func unreadable(err error) *failure.Error {
	f := fail(ClassUnreadable, err)
	switch ledger.Trouble(err) {
	case "io", "files":
		f.Kind = failure.Retry
	}
	return f
}
