// Package inspect learns what the ledger records of a capture file, in one pass
// over its bytes: both digests, the packets' count, bytes and times, link types
// and damage. It writes nothing and keeps about 1 MiB in memory, whatever the
// file claims; a compressed file is unwrapped on the way, under a budget.
package inspect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"capagent/internal/ledger"
	"capagent/internal/pcapio"
	"capagent/internal/sums"
)

// Observer is told of what passes by. Both functions may be nil.
type Observer struct {
	Read   func(n int64)        // of bytes as they are read
	Packet func(*pcapio.Packet) // of each packet, in the file's order; valid during the call
}

// Reader inspects the capture file that r holds, to the end of r, and tells
// packet, unless it is nil, of each packet.
//
// What is damaged or cut short is counted up to the damage and marked with
// Truncated and Note; that is no error. An error that wraps
// pcapio.ErrNotCapture or pcapio.ErrOverBudget says that the content is no
// capture or too large when unwrapped; the result then still has Size and the
// digests. With any other error (of r or of ctx) the result is incomplete. ctx
// is looked at before every read.
func Reader(ctx context.Context, r io.Reader, budget pcapio.Budget, packet func(*pcapio.Packet)) (ledger.Inspection, error) {
	pair := sums.New()
	in, err := run(ctx, r, budget, pair, packet)
	in.SHA256, in.SHA1 = pair.SHA256(), pair.SHA1()
	return in, err
}

// File inspects an open file from its beginning, under the default budget.
// Afterwards the file's offset is at its end.
func File(ctx context.Context, f *os.File, o Observer) (ledger.Inspection, error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return ledger.Inspection{}, fmt.Errorf("inspect: %w", err)
	}
	var r io.Reader = f
	if o.Read != nil {
		r = telling{f, o.Read}
	}
	return Reader(ctx, r, pcapio.DefaultBudget(), o.Packet)
}

// telling tells how much was read through it.
type telling struct {
	r    io.Reader
	tell func(n int64)
}

func (t telling) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	t.tell(int64(n))
	return n, err
}

// tap hands on what it reads, shows it to hash, and stops when ctx ends.
type tap struct {
	ctx  context.Context
	r    io.Reader
	hash io.Writer
	n    int64
	err  error // anything but the end of r
}

func (t *tap) Read(p []byte) (int, error) {
	if t.err = t.ctx.Err(); t.err != nil {
		return 0, t.err
	}
	n, err := t.r.Read(p)
	t.n += int64(n)
	_, _ = t.hash.Write(p[:n]) // a hash never fails
	if err != nil && !errors.Is(err, io.EOF) {
		t.err = err
	}
	return n, err
}

// run is Reader without the digests: hash is given every byte of r.
func run(ctx context.Context, r io.Reader, budget pcapio.Budget, hash io.Writer, packet func(*pcapio.Packet)) (ledger.Inspection, error) {
	t := &tap{ctx: ctx, r: r, hash: hash}
	in, err := content(t, budget, packet)
	if t.err == nil {
		// What lies behind the content is hashed, too.
		_, _ = io.CopyBuffer(io.Discard, struct{ io.Reader }{t}, make([]byte, 64<<10))
	}
	in.Size = t.n
	if in.Wrapper == "" {
		in.PayloadSize = t.n
	}
	if t.err != nil {
		err = t.err
	}
	return in, err
}

// content inspects what t holds, up to where that ends or cannot be understood.
func content(t *tap, budget pcapio.Budget, packet func(*pcapio.Packet)) (in ledger.Inspection, err error) {
	p, err := pcapio.Unwrap(t, budget)
	if err != nil {
		return in, err
	}
	defer func() { _ = p.Close() }()
	in.Wrapper = p.Wrapper
	rd, err := pcapio.NewReader(p)
	if err != nil {
		in.Note = err.Error()
		return in, err
	}
	in.Format = string(rd.Format())
	end := packets(rd, &in, packet)
	in.Interfaces = rd.Interfaces()
	for _, n := range rd.LinkTypes() {
		if name := pcapio.LinkTypeName(n); !slices.Contains(in.LinkTypes, name) {
			in.LinkTypes = append(in.LinkTypes, name)
		}
	}
	if p.Wrapper != "" {
		// A damaged capture may go on for long behind the damage.
		if _, err = io.Copy(io.Discard, p); errors.Is(err, pcapio.ErrOverBudget) {
			end = err
		}
		in.PayloadSize = p.Size()
	}
	switch {
	case errors.Is(end, io.EOF):
		if p.Ignored {
			in.Note = "bytes after the end of the " + p.Wrapper + " data were ignored"
		}
		return in, nil
	case errors.Is(end, pcapio.ErrTruncated):
		in.Truncated = true
		in.Note = end.Error()
		return in, nil
	case errors.Is(end, pcapio.ErrFormat):
		in.Note = end.Error()
		return in, nil
	}
	in.Note = end.Error()
	return in, end
}

// packets counts the packets of rd and returns what ended them.
func packets(rd *pcapio.Reader, in *ledger.Inspection, see func(*pcapio.Packet)) error {
	var p pcapio.Packet
	var first, last, before int64
	timed := false
	for {
		err := rd.Next(&p)
		if err != nil {
			if timed {
				in.First, in.Last = time.Unix(0, first).UTC(), time.Unix(0, last).UTC()
			}
			return err
		}
		if see != nil {
			see(&p)
		}
		in.Packets++
		in.PacketBytes += int64(p.CapLen)
		if p.NoTime {
			continue
		}
		if !timed {
			timed = true
			first, last, before = p.Time, p.Time, p.Time
		}
		if p.Time < before {
			in.Disorder++
		}
		before = p.Time
		first, last = min(first, p.Time), max(last, p.Time)
	}
}
