package audit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/rs/zerolog"

	"capagent/internal/ledger"
)

// Outbox is what the log needs of the ledger; *ledger.Ledger is one.
type Outbox interface {
	Record
	EventsWritten(ctx context.Context, seq int64, head string) error
	AdoptAudit(ctx context.Context, seq int64, head string) error
	Note(ctx context.Context, name string, data any) error
}

// Options say where the log is and what its lines say of their writer.
type Options struct {
	Dir     string // the state directory
	Host    string
	Version string // of the agent
	MaxSize int64  // bytes at which a file is archived; 0: 64 MiB
	Log     zerolog.Logger
}

const (
	maxSize    = 64 << 20
	batch      = 500     // events that are written and recorded at a time
	batchBytes = 1 << 20 // and their bytes, to which one line may be added
)

// The events that the log notes of itself.
const (
	eventTorn  = "torn"  // what a crash left behind the last whole line was cut off
	eventBreak = "break" // the log is not what the ledger recorded
)

// Log writes the audit log. Several processes may have one each for the same
// ledger; Drain may be called from any goroutine.
type Log struct {
	outbox Outbox
	opts   Options

	mu    sync.Mutex
	noted string // what was noted last, so that a full disk does not make a note per try
}

// New returns the log of a ledger.
func New(outbox Outbox, opts Options) *Log {
	if opts.MaxSize == 0 {
		opts.MaxSize = maxSize
	}
	return &Log{outbox: outbox, opts: opts}
}

// head is the end of the log as the ledger has it, and where its next line goes.
type head struct {
	seq  int64
	hash string
	size int64  // of the file up to there
	lead string // what has to come before the next line
}

// Drain moves the events that wait in the ledger into the log, durably, and only
// then takes them out of the ledger: after an error (a full disk) or a crash none
// is lost, and none comes twice. What a crash left half-written is cut off; that
// is noted in the log. A log that is not what the ledger recorded is continued
// from what the ledger recorded, so that Verify names the place, and that is noted
// too.
func (l *Log) Drain(ctx context.Context) error {
	events, err := l.outbox.Events(ctx, 1)
	if err == nil && len(events) > 0 {
		err = l.drain(ctx)
	}
	if err != nil {
		return fmt.Errorf("write the audit log: %w", err)
	}
	return nil
}

func (l *Log) drain(ctx context.Context) (err error) {
	unlock, err := l.outbox.AuditLock(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	f, size, err := openLog(l.path(), os.O_RDWR|os.O_CREATE)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // what was written was synced
	at, err := l.settle(ctx, f, size)
	if err != nil {
		return err
	}
	for {
		events, err := l.outbox.Events(ctx, batch)
		if err != nil || len(events) == 0 {
			return err
		}
		if at.size >= l.opts.MaxSize && at.lead == "" {
			if f, at, err = l.rotate(f, at); err != nil {
				return err
			}
		}
		if at, err = l.append(f, at, events); err != nil {
			return err
		}
		if err := l.outbox.EventsWritten(ctx, at.seq, at.hash); err != nil {
			return err
		}
	}
}

func (l *Log) path() string { return filepath.Join(l.opts.Dir, Name) }

// append writes events behind at with one sync and returns the new head. When it
// fails, the file is as it was, or has a torn end.
func (l *Log) append(f *os.File, at head, events []ledger.Event) (head, error) {
	buf := []byte(at.lead)
	next := at
	for _, e := range events {
		line, err := encode(e, l.opts.Host, l.opts.Version, next.hash)
		if err != nil {
			return at, err
		}
		if len(buf) > 0 && len(buf)+len(line) > batchBytes {
			break
		}
		buf = append(buf, line...)
		next.seq, next.hash = e.Seq, hash(line[:len(line)-1])
	}
	_, err := f.WriteAt(buf, at.size)
	if err == nil {
		err = f.Sync()
	}
	if err == nil && at.size == 0 {
		err = syncDir(l.opts.Dir)
	}
	if err != nil {
		_ = f.Truncate(at.size) // what stays is found torn, or as a part of what comes
		return at, err
	}
	next.size, next.lead = at.size+int64(len(buf)), ""
	return next, nil
}

// rotate archives the file and begins another. After a crash in between there is
// none, and the head is the archive's last line.
func (l *Log) rotate(f *os.File, at head) (*os.File, head, error) {
	archive := filepath.Join(l.opts.Dir, archiveName(firstSeq(f, at)))
	if _, err := os.Lstat(archive); err == nil {
		return f, at, nil // never over another file: this one grows on
	}
	if err := f.Close(); err != nil { // Windows renames closed files only
		return f, at, err
	}
	if err := os.Rename(l.path(), archive); err != nil {
		// Somebody reads it on Windows: this one grows on.
		l.opts.Log.Warn().Err(err).Msg("the audit log can't be archived")
	} else {
		at.size = 0
	}
	f, _, err := openLog(l.path(), os.O_RDWR|os.O_CREATE)
	return f, at, err
}

// firstSeq returns the number of the file's first line, or where that can't be
// read, which Verify will say, that of its last one.
func firstSeq(f *os.File, at head) int64 {
	b := make([]byte, min(at.size, maxLine))
	if _, err := f.ReadAt(b, 0); err != nil {
		return at.seq
	}
	raw, _, _ := cutLine(b)
	line, err := parse(raw)
	if err != nil {
		return at.seq
	}
	return line.Seq
}
