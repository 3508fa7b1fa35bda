package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"
)

// StepInspect is the step that Register records as done.
const StepInspect = "inspect"

// Found is a completed capture file as a source hands it to the ledger.
type Found struct {
	Source      string
	Path        string // absolute; may hold any bytes
	Name        string
	Case        string
	Destination string // canonical, never with a token
	Owned       bool
	Inspection
	Tags    []string // invalid UTF-8 in them becomes U+FFFD
	Comment string
	Method  string
	Keylog  string
	// SessionName is the file name that a person chose for the session; "" for
	// the configuration's template.
	SessionName string
	State       State    // where its life begins: Queued, Held, Sealed, Quarantined, or Done when there is nothing to send
	Reason      string   // for people, when the state is not Queued
	Stamp       string   // when not "": Original is remembered with it and the capture, for Recall
	Original    string   // the file that Path is a copy of; "" when Path is the file itself
	Deliver     []string // where a new capture is brought besides, once it has a session: Delivery.Destination
	Live        *Live    // what is known besides of a capture that the agent took itself
}

// Registered is a found capture's row.
type Registered struct {
	Capture
	New bool // the row was made by this call
}

// Register records found captures, all of them or, on an error, none. One row
// stands for one (Path, SHA256, Destination). Where it exists already, a capture
// that is done, purged or failed is returned as it is; any other one takes the
// new description (source, name, case, tags, comment, method, keylog, owned,
// inspection, and live where there is any) and keeps its state, except that a quarantined or held one that is
// now found Queued is queued, and a quarantined one goes wherever Found says.
// The results are in the order of found. A batch of a few hundred is one commit;
// memory grows with the batch.
func (l *Ledger) Register(ctx context.Context, found []Found) ([]Registered, error) {
	out := make([]Registered, len(found))
	err := l.write(ctx, func(ctx context.Context, tx *txn) error {
		r, err := newRegistrar(ctx, tx, inRange(l.now()))
		if err != nil {
			return err
		}
		for i := range found {
			if out[i], err = r.register(ctx, found[i]); err == nil && found[i].Stamp != "" {
				err = remember(ctx, tx, or(found[i].Original, found[i].Path), found[i].Stamp, out[i].ID)
			}
			if err != nil {
				err = fmt.Errorf("%q: %w", found[i].Path, err)
				break
			}
		}
		return errors.Join(err, r.close())
	})
	if err != nil {
		return nil, fmt.Errorf("register %d captures: %w", len(found), err)
	}
	return out, nil
}

// registrar holds the prepared statements of one batch.
type registrar struct {
	tx            *txn
	now           time.Time
	insert, steps *sql.Stmt
}

// insertCapture writes all columns of a new capture that don't begin empty.
const insertCapture = `INSERT INTO captures (
	source, path, name, case_name, destination, state, reason, owned,
	format, wrapper, size, payload_size, sha256, sha1, packets, packet_bytes, first_packet, last_packet,
	disorder, link_types, interfaces, truncated, note, tags, comment, method, keylog, session_name,
	created, updated, live, summary) VALUES (
	?, ?, ?, ?, ?, ?, ?, ?,
	?, ?, ?, ?, ?, ?, ?, ?, ?, ?,
	?, ?, ?, ?, ?, ?, ?, ?, ?, ?,
	?, ?, ?, ?) ON CONFLICT (path, sha256, destination) DO NOTHING RETURNING id`

func newRegistrar(ctx context.Context, tx *txn, now time.Time) (*registrar, error) {
	r := &registrar{tx: tx, now: now}
	var err1, err2 error
	r.insert, err1 = tx.PrepareContext(ctx, insertCapture)
	r.steps, err2 = tx.PrepareContext(ctx, `INSERT INTO steps (capture, name, state, attempts, note, updated) VALUES (?, ?, ?, 1, ?, ?)`)
	if err := errors.Join(err1, err2); err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

func (r *registrar) close() error {
	var errs []error
	for _, s := range []*sql.Stmt{r.insert, r.steps} {
		if s != nil {
			errs = append(errs, s.Close())
		}
	}
	return errors.Join(errs...)
}

func (r *registrar) register(ctx context.Context, f Found) (Registered, error) {
	c := f.capture(r.now)
	if err := checkCapture(0, "", c.State); err != nil {
		return Registered{}, err
	}
	live, err := liveValue(c.Live)
	if err != nil {
		return Registered{}, err
	}
	err = r.insert.QueryRowContext(ctx, c.Source, c.Path, c.Name, c.Case, c.Destination, c.State, c.Reason, c.Owned,
		c.Format, c.Wrapper, c.Size, c.PayloadSize, c.SHA256, c.SHA1, c.Packets, c.PacketBytes, stamp(c.First), stamp(c.Last),
		c.Disorder, list(c.LinkTypes), c.Interfaces, c.Truncated, c.Note, list(c.Tags), c.Comment, c.Method, c.Keylog, c.SessionName,
		stamp(c.Created), stamp(c.Updated), live, c.Summary).Scan(&c.ID)
	if errors.Is(err, sql.ErrNoRows) {
		return r.again(ctx, c)
	}
	if err != nil {
		return Registered{}, err
	}
	if err := checkStep(c.ID, StepInspect, "", StepDone); err != nil {
		return Registered{}, err
	}
	if _, err = r.steps.ExecContext(ctx, c.ID, StepInspect, StepDone, c.Note, stamp(r.now)); err != nil {
		return Registered{}, err
	}
	for _, to := range f.Deliver {
		if err := deliver(ctx, r.tx, r.now, c.ID, to); err != nil {
			return Registered{}, err
		}
	}
	err = emit(ctx, r.tx, r.now, EventRegistered, c.ID, newRegisteredData(&c, false))
	return Registered{Capture: c, New: true}, err
}

// again is a capture that has a row already.
func (r *registrar) again(ctx context.Context, found Capture) (Registered, error) {
	row := r.tx.QueryRowContext(ctx, `SELECT `+captureColumns+` FROM captures WHERE path = ? AND sha256 = ? AND destination = ?`,
		found.Path, found.SHA256, found.Destination)
	var old Capture
	if err := row.Scan(captureFields(&old)...); err != nil {
		return Registered{}, err
	}
	switch old.State {
	case Done, Purged, Failed:
		return Registered{Capture: old}, nil
	}
	live, err := liveValue(found.Live)
	if err != nil {
		return Registered{}, err
	}
	_, err = r.tx.ExecContext(ctx, `UPDATE captures SET source = ?, name = ?, case_name = ?, owned = ?, format = ?, wrapper = ?,
		size = ?, payload_size = ?, sha1 = ?, packets = ?, packet_bytes = ?, first_packet = ?, last_packet = ?, disorder = ?,
		link_types = ?, interfaces = ?, truncated = ?, note = ?, tags = ?, comment = ?, method = ?, keylog = ?,
		session_name = ?, updated = ?, live = coalesce(nullif(?, ''), live), summary = ?
		WHERE id = ?`,
		found.Source, found.Name, found.Case, found.Owned, found.Format, found.Wrapper,
		found.Size, found.PayloadSize, found.SHA1, found.Packets, found.PacketBytes, stamp(found.First), stamp(found.Last), found.Disorder,
		list(found.LinkTypes), found.Interfaces, found.Truncated, found.Note, list(found.Tags), found.Comment, found.Method, found.Keylog,
		found.SessionName, stamp(r.now), live, found.Summary,
		old.ID)
	if err != nil {
		return Registered{}, err
	}
	described := found
	described.State, described.Reason = old.State, old.Reason
	if err := emit(ctx, r.tx, r.now, EventRegistered, old.ID, newRegisteredData(&described, true)); err != nil {
		return Registered{}, err
	}
	if goesOn(old.State, found.State) {
		err := move(ctx, r.tx, r.now, old.ID, "", func(c *captureRow, _ *stepRow) (stepAction, error) {
			c.state, c.reason = found.State, found.Reason
			return leaveStep, nil
		})
		if err != nil {
			return Registered{}, err
		}
	}
	c, err := scanCapture(r.tx.QueryRowContext(ctx, `SELECT `+captureColumns+` FROM captures WHERE id = ?`, old.ID))
	return Registered{Capture: c}, err
}

// goesOn says whether a capture that was kept back goes on because it was found
// again.
func goesOn(old, found State) bool {
	switch old {
	case Held:
		return found == Queued
	case Quarantined:
		return found != Quarantined
	}
	return false
}

// capture returns the new row exactly as the ledger will give it back.
func (f Found) capture(now time.Time) Capture {
	c := Capture{
		Source: f.Source, Path: f.Path, Name: f.Name, Case: f.Case, Destination: f.Destination,
		State: f.State, Reason: f.Reason, Owned: f.Owned, Inspection: f.Inspection,
		Tags: validTexts(f.Tags), Comment: f.Comment, Method: f.Method, Keylog: f.Keylog, SessionName: f.SessionName,
		Live:    f.Live,
		Created: now, Updated: now,
	}
	c.First, c.Last = inRange(c.First), inRange(c.Last)
	c.LinkTypes = validTexts(c.LinkTypes)
	return c
}

func validTexts(in []string) []string {
	var out []string
	for _, s := range in {
		out = append(out, strings.ToValidUTF8(s, "\uFFFD"))
	}
	return out
}
