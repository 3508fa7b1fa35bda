package ledger

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
	"unicode/utf8"
)

// The names of the events that the ledger writes itself. Notes have others.
const (
	EventRegistered = "registered" // a capture was recorded, or its description was
	EventState      = "state"      // a capture changed its state
	EventStep       = "step"       // something happened to a step
	EventPart       = "part"       // a part has its session
	EventMoved      = "moved"      // a capture's file is about to be elsewhere
	EventFinding    = "finding"    // a capture has a finding, another rating of one, or one no more
	EventRebuilt    = "rebuilt"    // this ledger replaces one that was damaged or lost
)

// Event is one change, in the same transaction as the change. The ledger keeps
// it until the audit log has it.
type Event struct {
	Seq     int64 // from 1, without gaps
	Time    time.Time
	Name    string
	Capture int64           // 0 when it is not of one
	Data    json.RawMessage // a JSON object of at most 48 KiB
}

const (
	maxEventData = 48 << 10
	maxEventPath = 2 << 10 // bytes of a path in an event; the capture's row has all of it
	maxEventText = 1 << 10 // bytes of any other text
	maxEventName = 64
)

const insertEvent = `INSERT INTO events (time, name, capture, data) VALUES (?, ?, ?, ?)`

// emit records an event as a part of the transaction.
func emit(ctx context.Context, tx *txn, now time.Time, name string, capture int64, data any) error {
	b, err := eventJSON(data)
	if err != nil {
		return fmt.Errorf("event %s: %w", name, err)
	}
	_, err = tx.ExecContext(ctx, insertEvent, inRange(now).UnixNano(), name, capture, b)
	return err
}

// eventJSON returns a JSON object on one line. Bytes that are no UTF-8 become U+FFFD.
func eventJSON(data any) (string, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // people read it; it is never part of a page
	if err := e.Encode(data); err != nil {
		return "", err
	}
	s := strings.TrimSuffix(b.String(), "\n")
	switch {
	case !strings.HasPrefix(s, "{"):
		return "", errors.New("the data is not an object")
	case len(s) > maxEventData:
		return "", fmt.Errorf("the data has %d bytes, more than %d", len(s), maxEventData)
	}
	return s, nil
}

// eventPath is a path as an event tells it: as text, and where that is not exact
// as bytes too.
type eventPath struct {
	Path  string `json:"path"`
	Exact []byte `json:"path_base64,omitempty"`
}

func newEventPath(path string) eventPath {
	p := eventPath{Path: clip(path, maxEventPath)}
	if !utf8.ValidString(p.Path) {
		p.Exact = []byte(p.Path)
	}
	return p
}

// clip returns s, or its beginning and a mark where it has more than n bytes.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}

func text(s string) string { return clip(s, maxEventText) }

type registeredData struct {
	eventPath
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
	SHA1   string `json:"sha1"`
	Source string `json:"source"`
	Case   string `json:"case,omitempty"`
	State  State  `json:"state"`
	Reason string `json:"reason,omitempty"`
	Again  bool   `json:"again,omitempty"` // it was known, and is described anew
}

func newRegisteredData(c *Capture, again bool) registeredData {
	return registeredData{
		eventPath: newEventPath(c.Path), Size: c.Size, SHA256: text(c.SHA256), SHA1: text(c.SHA1), Source: text(c.Source),
		Case: text(c.Case), State: c.State, Reason: text(c.Reason), Again: again,
	}
}

type stateData struct {
	From   State  `json:"from"`
	To     State  `json:"to"`
	Reason string `json:"reason,omitempty"`
}

type stepData struct {
	Step              string    `json:"step"`
	State             StepState `json:"state"`
	Attempts          int       `json:"attempts,omitempty"`
	Class             string    `json:"class,omitempty"`
	Error             string    `json:"error,omitempty"`
	Note              string    `json:"note,omitempty"`
	SessionName       string    `json:"session_name,omitempty"` // this and the following: when the step brought them
	Session           string    `json:"session,omitempty"`
	DuplicateOf       int64     `json:"duplicate_of,omitempty"`
	PossibleDuplicate bool      `json:"possible_duplicate,omitempty"`
}

func newStepData(s *stepRow, before, after Result) stepData {
	d := stepData{
		Step: text(s.Name), State: s.State, Attempts: s.Attempts, Class: text(s.Class), Error: text(s.Error), Note: text(s.Note),
	}
	if after != before {
		d.SessionName, d.Session = text(after.SessionName), text(after.SessionID)
		d.DuplicateOf, d.PossibleDuplicate = after.DuplicateOf, after.PossibleDuplicate
	}
	return d
}

type partData struct {
	Number            int    `json:"number"`
	Session           string `json:"session"`
	PossibleDuplicate bool   `json:"possible_duplicate,omitempty"`
}

type movedData struct {
	From eventPath `json:"from"`
	To   eventPath `json:"to"`
}

// Note records an event that is not a change of the ledger: a gap, a start, a
// stop. The name is at most 64 of a-z, 0-9 and _; the data becomes a JSON object
// of at most 48 KiB, nil an empty one. Like Finish it works when ctx is over.
func (l *Ledger) Note(ctx context.Context, name string, data any) error {
	if data == nil {
		data = struct{}{}
	}
	err := l.write(context.WithoutCancel(ctx), func(ctx context.Context, tx *txn) error {
		if name == "" || len(name) > maxEventName || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
			return errors.New("not a name of an event")
		}
		return emit(ctx, tx, l.now(), name, 0, data)
	})
	if err != nil {
		return fmt.Errorf("note %q: %w", clip(name, maxEventName), err)
	}
	return nil
}

// Events returns at most limit events that the audit log does not have yet, the
// oldest first.
func (l *Ledger) Events(ctx context.Context, limit int) ([]Event, error) {
	events, err := collect(ctx, l.r, func(e *Event) []any {
		return []any{&e.Seq, (*stamp)(&e.Time), &e.Name, &e.Capture, (*eventData)(&e.Data)}
	}, `SELECT seq, time, name, capture, data FROM events ORDER BY seq LIMIT ?`, max(limit, 0))
	if err != nil {
		return nil, fmt.Errorf("read events: %w", l.noted(err))
	}
	return events, nil
}

// eventData is JSON in any case: a flipped bit in one event must not keep all
// others out of the log.
type eventData json.RawMessage

func (d *eventData) Scan(v any) error {
	s, ok := v.(string)
	if !ok {
		return fmt.Errorf("data is stored as %T", v)
	}
	*d = eventData(s)
	if !json.Valid(*d) || !strings.HasPrefix(s, "{") {
		unreadable, err := eventJSON(map[string]string{"unreadable": text(s)})
		*d = eventData(unreadable)
		return err
	}
	return nil
}

const auditHead = "audit_head" // a row of meta: "<seq> <head>"

// AuditHead returns the last event that the audit log has and the hash of its
// line, as EventsWritten recorded them; 0 and "" when the log has none.
func (l *Ledger) AuditHead(ctx context.Context) (seq int64, head string, err error) {
	var value string
	err = l.r.QueryRowContext(ctx, `SELECT value FROM meta WHERE key = ?`, auditHead).Scan(&value)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, "", nil
	}
	if err == nil {
		_, err = fmt.Sscanf(value, "%d %s", &seq, &head)
	}
	if err != nil {
		return 0, "", fmt.Errorf("read the head of the audit log: %w", l.noted(err))
	}
	return seq, head, nil
}

func setAuditHead(ctx context.Context, tx *txn, seq int64, head string) error {
	_, err := tx.ExecContext(ctx, `INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)`, auditHead, fmt.Sprintf("%d %s", seq, head))
	return err
}

// EventsWritten says that the audit log durably has all events up to seq, and
// the hash of the line of that one. They are deleted, and both are recorded.
func (l *Ledger) EventsWritten(ctx context.Context, seq int64, head string) error {
	err := l.write(ctx, func(ctx context.Context, tx *txn) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM events WHERE seq <= ?`, seq); err != nil {
			return err
		}
		return setAuditHead(ctx, tx, seq, head)
	})
	if err != nil {
		return fmt.Errorf("record events up to %d as written: %w", seq, err)
	}
	return nil
}

// AdoptAudit makes an audit log that this ledger knows nothing of (a rebuilt
// ledger finds one) its own: the events that wait are numbered after its last
// line, which is recorded as the head.
func (l *Ledger) AdoptAudit(ctx context.Context, seq int64, head string) error {
	err := l.write(ctx, func(ctx context.Context, tx *txn) error {
		var known bool
		if err := tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM meta WHERE key = ?)`, auditHead).Scan(&known); err != nil {
			return err
		}
		if known {
			return errors.New("this ledger has a log already")
		}
		for _, query := range []string{
			`UPDATE events SET seq = -seq WHERE ? > 0`, // out of the way of the new numbers
			`UPDATE events SET seq = ? - seq`,
			`UPDATE sqlite_sequence SET seq = seq + ? WHERE name = 'events'`,
			`INSERT INTO sqlite_sequence (name, seq) SELECT 'events', ? WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'events')`,
		} {
			if _, err := tx.ExecContext(ctx, query, seq); err != nil {
				return err
			}
		}
		return setAuditHead(ctx, tx, seq, head)
	})
	if err != nil {
		return fmt.Errorf("adopt the audit log: %w", err)
	}
	return nil
}

// AuditLock waits for the right to write to the audit log of this ledger, which
// one process has at a time, or to read it while nobody writes when the ledger
// is open for reading. The kernel gives it back when the process ends.
func (l *Ledger) AuditLock(ctx context.Context) (unlock func() error, err error) {
	name, writing := l.path+".audit", l.guard != nil
	flags := os.O_RDONLY
	if writing {
		flags = os.O_RDWR | os.O_CREATE
	}
	f, err := os.OpenFile(name, flags, 0o600)
	if !writing && errors.Is(err, os.ErrNotExist) {
		return func() error { return nil }, nil // nobody ever wrote
	}
	if err != nil {
		return nil, fmt.Errorf("lock the audit log: %w", err)
	}
	for {
		locked, err := tryLock(f, writing)
		if locked {
			return f.Close, nil
		}
		if err == nil {
			err = pause(ctx, guardPoll)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("lock the audit log: %w", err), f.Close())
		}
	}
}
