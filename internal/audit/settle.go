package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"

	"capagent/internal/ledger"
)

// reach is how far from the end of the file the recorded head may lie: behind it
// there is at most one batch that a crash kept from being recorded.
const reach = batchBytes + 3*maxLine

// settle brings the file and what the ledger recorded of it together, and returns
// where the next line goes.
func (l *Log) settle(ctx context.Context, f *os.File, size int64) (head, error) {
	seq, recorded, err := l.outbox.AuditHead(ctx)
	if err != nil {
		return head{}, err
	}
	at := head{seq: seq, hash: recorded, size: size}
	if seq == 0 {
		at.hash = genesis
	}
	end, err := tail(f, size, 2*maxLine)
	if err != nil {
		return head{}, err
	}
	if rest, found := after(end, at.hash); found && len(rest) == 0 {
		return at, nil
	}
	old, err := archives(l.opts.Dir)
	if err != nil || size == 0 && seq == 0 && len(old) == 0 {
		return at, err
	}
	if size == 0 && len(old) > 0 { // after an archiving nothing else was written
		end, err = l.tailOf(old[len(old)-1])
	} else {
		end, err = tail(f, size, reach)
	}
	if err != nil {
		return head{}, err
	}
	events, err := l.outbox.Events(ctx, batch)
	if err != nil {
		return head{}, err
	}
	rest, found := unrecorded(end, at.hash, events)
	if size == 0 {
		found = found && len(rest) == 0
	}
	if found && len(rest) > 0 {
		if found, err = l.follow(ctx, f, &at, &rest, events); err != nil {
			return head{}, err
		}
	}
	switch last := lastLine(end); {
	case found && len(rest) == 0:
		return at, nil
	case found:
		at.size = size - int64(len(rest))
		return at, l.cut(ctx, f, at, rest)
	case seq == 0 && last.seq > 0:
		return l.adopt(ctx, f, size, last)
	default:
		if len(end) > 0 && size > 0 && end[len(end)-1] != '\n' {
			at.lead = "\n"
		}
		return at, l.broken(ctx, at, last)
	}
}

func (l *Log) tailOf(name string) ([]byte, error) {
	f, size, err := openLog(filepath.Join(l.opts.Dir, name), os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	return tail(f, size, reach)
}

// unrecorded returns what lies behind the recorded head: from a line on that is
// the next event of the ledger, wherever it lies, or all that is behind the head's
// own line.
func unrecorded(end []byte, recorded string, events []ledger.Event) (rest []byte, found bool) {
	for b := end; len(b) > 0 && len(events) > 0; {
		raw, behind, whole := cutLine(b)
		if whole && isEvent(raw, events[0], recorded) {
			return b, true
		}
		b = behind
	}
	if recorded == genesis {
		// A torn first write, unless it holds lines, of which the ledger knows nothing.
		return end, lastLine(end).seq == 0
	}
	return after(end, recorded)
}

// follow takes the lines of rest that are the next events of the ledger: they were
// written and not recorded as such. It leaves what is behind them, and says
// whether that can be of a torn write: it holds no line of a log.
func (l *Log) follow(ctx context.Context, f *os.File, at *head, rest *[]byte, events []ledger.Event) (bool, error) {
	from := at.seq
	for _, e := range events {
		raw, behind, whole := cutLine(*rest)
		if !whole || !isEvent(raw, e, at.hash) {
			break
		}
		at.seq, at.hash, *rest = e.Seq, hash(raw), behind
	}
	if at.seq != from {
		if err := f.Sync(); err != nil { // they may have been written only
			return false, err
		}
		if err := l.outbox.EventsWritten(ctx, at.seq, at.hash); err != nil {
			return false, err
		}
	}
	return lastLine(*rest).seq == 0, nil
}

// isEvent says whether a line is what an event becomes behind the line prev,
// whoever wrote it.
func isEvent(raw []byte, e ledger.Event, prev string) bool {
	line, err := parse(raw)
	if err != nil {
		return false
	}
	want, err := encode(e, line.Host, line.Version, prev)
	return err == nil && bytes.Equal(want[:len(want)-1], raw)
}

// cut notes and cuts off the rest of a torn write behind at.
func (l *Log) cut(ctx context.Context, f *os.File, at head, rest []byte) error {
	sum := sha256.Sum256(rest)
	digest := hex.EncodeToString(sum[:])
	err := l.note(ctx, eventTorn, digest, map[string]any{"after": at.seq, "bytes": len(rest), "sha256": digest})
	if err != nil {
		return err
	}
	return f.Truncate(at.size) // the next line makes it durable
}

// adopt continues a log that the ledger knows nothing of: the ledger was rebuilt.
func (l *Log) adopt(ctx context.Context, f *os.File, size int64, last head) (head, error) {
	if err := l.outbox.AdoptAudit(ctx, last.seq, last.hash); err != nil {
		return head{}, err
	}
	data := map[string]any{"reason": "the ledger knew nothing of this log", "found_seq": last.seq, "found_head": last.hash}
	if err := l.note(ctx, eventBreak, last.hash, data); err != nil {
		return head{}, err
	}
	// From here on it is a log like any other; what is behind its last line is torn.
	return l.settle(ctx, f, size)
}

// broken notes that the log does not end with what the ledger recorded. It goes on
// from what was recorded, which does not fit what is there.
func (l *Log) broken(ctx context.Context, at, last head) error {
	return l.note(ctx, eventBreak, fmt.Sprint(at, last), map[string]any{
		"reason":       "the log does not end with what the ledger recorded",
		"recorded_seq": at.seq, "recorded_head": at.hash, "found_seq": last.seq, "found_head": last.hash,
	})
}

// note records an event of the log's own, once as long as nothing else happens.
func (l *Log) note(ctx context.Context, name, key string, data map[string]any) error {
	key = name + " " + key
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.noted == key {
		return nil
	}
	if err := l.outbox.Note(ctx, name, data); err != nil {
		return err
	}
	l.noted = key
	l.opts.Log.Error().Str("log", l.path()).Fields(data).Msg("audit log: " + name)
	return nil
}

// after returns what lies behind the line with this hash.
func after(b []byte, want string) (rest []byte, found bool) {
	for {
		raw, behind, whole := cutLine(b)
		if !whole || hash(raw) == want {
			return behind, whole
		}
		b = behind
	}
}

// lastLine returns the last whole line of a log in b, zero when there is none.
func lastLine(b []byte) (last head) {
	for {
		raw, behind, whole := cutLine(b)
		if !whole {
			return last
		}
		if line, err := parse(raw); err == nil {
			last = head{seq: line.Seq, hash: hash(raw)}
		}
		b = behind
	}
}

// cutLine returns the first line without its newline and what is behind it. It is
// not whole when no newline ends it.
func cutLine(b []byte) (raw, behind []byte, whole bool) { return bytes.Cut(b, []byte("\n")) }
