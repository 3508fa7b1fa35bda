package ledger

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// guard is the lock file <ledger>.lock. Every process that writes holds it
// shared as long as the ledger is open; the one that checks, repairs, makes or
// migrates the file holds it alone. Its content remembers what the ledger's own
// file can't say when it is gone.
type guard struct{ file *os.File }

// The marks in the guard file. An empty guard is one of a ledger that was never
// finished.
const (
	markReady   = "ready"
	markSuspect = "suspect"  // damage was met; the next one to have the ledger alone reads all of it
	markDamaged = "damaged " // and the stamp of the files set aside
)

// guardPoll is how often a lock that another process holds is tried again.
const guardPoll = 20 * time.Millisecond

// enter takes the guard of a ledger: alone when nobody has it open, shared when
// others do. It waits while another process prepares the file.
func enter(ctx context.Context, ledger string) (g *guard, alone bool, err error) {
	f, err := os.OpenFile(ledger+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, false, err
	}
	g = &guard{file: f}
	for {
		for _, exclusive := range []bool{true, false} {
			ok, err := tryLock(f, exclusive)
			if err != nil {
				return nil, false, errors.Join(err, f.Close())
			}
			if ok {
				return g, exclusive, nil
			}
		}
		if err := pause(ctx, guardPoll); err != nil {
			return nil, false, errors.Join(preparing(err), f.Close())
		}
	}
}

func preparing(err error) error {
	return fmt.Errorf("another process is preparing the ledger: %w", err)
}

// share turns a guard that is held alone into a shared one. Another process may
// prepare the file in between, so no connection may be open.
func (g *guard) share(ctx context.Context) error {
	for {
		ok, err := tryLock(g.file, false)
		if ok || err != nil {
			return err
		}
		if err := pause(ctx, guardPoll); err != nil {
			return preparing(err)
		}
	}
}

// markSize is the length of the record in the guard file: one small write in
// place is the old mark or the new one after a power cut, never half of each.
const markSize = 48

func (g *guard) mark() (string, error) {
	b := make([]byte, markSize)
	n, err := g.file.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	mark := strings.TrimSpace(string(b[:n]))
	rest, ok := strings.CutPrefix(mark, markDamaged)
	if ok && rest != "" && strings.Trim(rest, "0123456789TZ.") == "" || mark == markReady || mark == markSuspect {
		return mark, nil
	}
	return "", nil // never set, or destroyed: it says nothing
}

func (g *guard) setMark(mark string) error {
	if _, err := g.file.WriteAt(fmt.Appendf(nil, "%-*s\n", markSize-1, mark), 0); err != nil {
		return err
	}
	return g.file.Sync()
}

// close gives the lock back. The file stays: removing it would let two
// processes hold two guards.
func (g *guard) close() error { return g.file.Close() }

// pause waits for d or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
