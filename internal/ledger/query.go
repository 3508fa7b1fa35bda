package ledger

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"
)

const (
	captureColumns = `id, source, path, name, case_name, destination, state, reason, owned, format, wrapper, size,
	payload_size, sha256, sha1, packets, packet_bytes, first_packet, last_packet, disorder, link_types, interfaces,
	truncated, note, tags, comment, method, keylog, session_name, session_id, session_url, duplicate_of,
	possible_duplicate, created, updated, live, summary, findings, threats, machines`
	stepColumns = `capture, name, state, attempts, not_before, class, error, note, updated`
	partColumns = `number, part_count, prefix, start, length, size, sha256, sha1, packets, first_packet, last_packet,
	name, session_id, possible_duplicate`
)

// captureFields are the places to scan captureColumns into.
func captureFields(c *Capture) []any {
	return []any{
		&c.ID, &c.Source, &c.Path, &c.Name, &c.Case, &c.Destination, &c.State, &c.Reason, &c.Owned, &c.Format, &c.Wrapper, &c.Size,
		&c.PayloadSize, &c.SHA256, &c.SHA1, &c.Packets, &c.PacketBytes, (*stamp)(&c.First), (*stamp)(&c.Last), &c.Disorder,
		(*list)(&c.LinkTypes), &c.Interfaces, &c.Truncated, &c.Note, (*list)(&c.Tags), &c.Comment, &c.Method, &c.Keylog,
		&c.SessionName, &c.SessionID, &c.SessionURL, &c.DuplicateOf, &c.PossibleDuplicate, (*stamp)(&c.Created), (*stamp)(&c.Updated),
		liveText{&c.Live},
		&c.Summary, &c.Findings, &c.Threats, &c.Machines,
	}
}

func stepFields(s *Step) []any {
	return []any{&s.Capture, &s.Name, &s.State, &s.Attempts, (*stamp)(&s.NotBefore), &s.Class, &s.Error, &s.Note, (*stamp)(&s.Updated)}
}

func scanCapture(row interface{ Scan(...any) error }) (Capture, error) {
	var c Capture
	err := row.Scan(captureFields(&c)...)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	return c, err
}

// Get returns a capture, or an error that is ErrNotFound.
func (l *Ledger) Get(ctx context.Context, id int64) (Capture, error) {
	c, err := scanCapture(l.r.QueryRowContext(ctx, `SELECT `+captureColumns+` FROM captures WHERE id = ?`, id))
	if err != nil {
		return Capture{}, fmt.Errorf("capture %d: %w", id, l.noted(err))
	}
	return c, nil
}

// Lookup returns the capture that a person means: by its number, by a session's
// id (also a part's), or by at least 6 leading hex digits of its SHA-256, in this
// order. The error is ErrNotFound, or ErrAmbiguous and names the numbers.
func (l *Ledger) Lookup(ctx context.Context, text string) (Capture, error) {
	if id, err := strconv.ParseInt(text, 10, 64); err == nil {
		if c, err := l.Get(ctx, id); !errors.Is(err, ErrNotFound) {
			return c, err
		}
	}
	lower := strings.ToLower(text)
	queries := []struct{ query, arg1, arg2 string }{
		// Duplicates carry the session of the capture that was sent instead.
		{`SELECT id FROM captures WHERE session_id = ? AND session_id <> '' AND duplicate_of = 0
			UNION SELECT capture FROM parts WHERE session_id = ? AND session_id <> '' LIMIT 6`, text, text},
		{`SELECT id FROM captures WHERE sha256 >= ? AND sha256 < ? ORDER BY id LIMIT 6`, lower, lower + "g"},
	}
	if len(lower) < 6 || strings.Trim(lower, "0123456789abcdef") != "" {
		queries = queries[:1]
	}
	for _, q := range queries {
		ids, err := l.ids(ctx, q.query, q.arg1, q.arg2)
		switch {
		case err != nil:
			return Capture{}, fmt.Errorf("look up %q: %w", text, l.noted(err))
		case len(ids) == 1:
			return l.Get(ctx, ids[0])
		case len(ids) > 1:
			return Capture{}, fmt.Errorf("look up %q: %w: captures %s", text, ErrAmbiguous, enumerate(ids, 5))
		}
	}
	return Capture{}, fmt.Errorf("look up %q: %w with this number, session or SHA-256 (at least 6 digits)", text, ErrNotFound)
}

// enumerate prints the first numbers of a list.
func enumerate(ids []int64, most int) string {
	var b strings.Builder
	for i, id := range ids {
		if i == most {
			return b.String() + " and more"
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(strconv.FormatInt(id, 10))
	}
	return b.String()
}

func (l *Ledger) ids(ctx context.Context, query string, args ...any) ([]int64, error) {
	return collect(ctx, l.r, func(id *int64) []any { return []any{id} }, query, args...)
}

// querier is a database or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// collect reads all rows of a query.
func collect[T any](ctx context.Context, q querier, fields func(*T) []any, query string, args ...any) (out []T, err error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var v T
		if err := rows.Scan(fields(&v)...); err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, rows.Err()
}

// Filter selects captures; an empty field selects all.
type Filter struct {
	States      []State
	Case        string
	Source      string
	Destination string
	SHA256      string
	IDs         []int64
	Flagged     bool  // only captures with findings
	After       int64 // the last number of the page before, 0 for the first page; with Newest the next numbers are lower
	Limit       int   // 0: no limit
	Newest      bool  // newest row first; otherwise oldest first
}

const pageSize = 500

// List returns captures in the order of their numbers. It reads a page at a
// time, so memory is flat for any number of rows and no lock is held while the
// caller works; rows that change meanwhile are seen as they are when their page
// is read. After an error it ends.
func (l *Ledger) List(ctx context.Context, f Filter) iter.Seq2[Capture, error] {
	return func(yield func(Capture, error) bool) {
		left := f.Limit
		for {
			size := pageSize
			if f.Limit > 0 {
				size = min(size, left)
			}
			query, args, err := f.page(size)
			var page []Capture
			if err == nil {
				page, err = collect(ctx, l.r, captureFields, query, args...)
			}
			if err != nil {
				yield(Capture{}, fmt.Errorf("list captures: %w", l.noted(err)))
				return
			}
			for _, c := range page {
				if !yield(c, nil) {
					return
				}
			}
			left -= len(page)
			if len(page) < size || f.Limit > 0 && left == 0 {
				return
			}
			f.After = page[len(page)-1].ID
		}
	}
}

// page returns the query for the next rows.
func (f Filter) page(size int) (string, []any, error) {
	ids, err := json.Marshal(f.IDs)
	if err != nil {
		return "", nil, err
	}
	var where []string
	var args []any
	add := func(cond string, arg any) { // cond without its parameter
		args = append(args, arg)
		where = append(where, cond+"?"+strconv.Itoa(len(args)))
	}
	for _, c := range []struct{ column, value string }{
		{"case_name", f.Case}, {"source", f.Source}, {"destination", f.Destination}, {"sha256", f.SHA256},
	} {
		if c.value != "" {
			add(c.column+" = ", c.value)
		}
	}
	if f.Case != "" {
		where = append(where, "case_name <> ''") // what its index needs to hear
	}
	if f.Flagged {
		where = append(where, "findings > 0")
	}
	if f.IDs != nil {
		args = append(args, string(ids))
		where = append(where, fmt.Sprintf("id IN (SELECT value FROM json_each(?%d))", len(args)))
	}
	compare, order := "id > ", "id"
	if f.Newest {
		compare, order = "id < ", "id DESC"
	}
	if f.After != 0 {
		add(compare, f.After)
	}
	args = append(args, size)
	end := fmt.Sprintf(" ORDER BY %s LIMIT ?%d", order, len(args))
	// The + keeps the index of states out where another one finds fewer rows.
	state := "state = "
	if f.Case != "" || f.SHA256 != "" || f.IDs != nil || f.Flagged {
		state = "+state = "
	}
	switch len(f.States) {
	case 0:
	case 1:
		add(state, f.States[0])
	default:
		// A page of each state by its index: a walk over all captures would find
		// the rows of rare states very late.
		var each []string
		for _, s := range f.States {
			args = append(args, s)
			conds := append(where[:len(where):len(where)], fmt.Sprintf("%s?%d", state, len(args)))
			each = append(each, `SELECT id FROM (SELECT id FROM captures WHERE `+strings.Join(conds, " AND ")+end+`)`)
		}
		where = []string{`id IN (` + strings.Join(each, " UNION ") + `)`}
	}
	query := `SELECT ` + captureColumns + ` FROM captures`
	if where != nil {
		query += ` WHERE ` + strings.Join(where, " AND ")
	}
	return query + end, args, nil
}

// Steps returns a capture's steps that something happened to, in the order in
// which they first did.
func (l *Ledger) Steps(ctx context.Context, id int64) ([]Step, error) {
	steps, err := collect(ctx, l.r, stepFields, `SELECT `+stepColumns+` FROM steps WHERE capture = ? ORDER BY rowid`, id)
	if err != nil {
		return nil, fmt.Errorf("steps of capture %d: %w", id, l.noted(err))
	}
	return steps, nil
}

// Count is how many captures there are and the bytes of their files.
type Count struct{ Captures, Bytes int64 }

// Summary is the ledger at a glance.
type Summary struct {
	States             map[State]Count // states without captures are missing
	OldestQueued       time.Time       // when the oldest queued capture was registered; zero when none is
	PossibleDuplicates int64
	Flagged            int64 // captures with findings
}

// Counts returns a summary. Its cost does not grow with the ledger.
func (l *Ledger) Counts(ctx context.Context) (Summary, error) {
	type row struct {
		State
		Count
	}
	rows, err := collect(ctx, l.r, func(r *row) []any { return []any{&r.State, &r.Captures, &r.Bytes} },
		`SELECT state, sum(captures), sum(bytes) FROM counts GROUP BY state HAVING sum(captures) > 0`)
	if err != nil {
		return Summary{}, fmt.Errorf("count captures: %w", l.noted(err))
	}
	s := Summary{States: make(map[State]Count, len(rows))}
	for _, r := range rows {
		s.States[r.State] = r.Count
	}
	err = l.r.QueryRowContext(ctx, `SELECT (SELECT created FROM captures WHERE state = ? ORDER BY id LIMIT 1),
		(SELECT count(*) FROM captures WHERE possible_duplicate = 1), (SELECT count(*) FROM captures INDEXED BY captures_flagged WHERE findings > 0)`, Queued).
		Scan((*stamp)(&s.OldestQueued), &s.PossibleDuplicates, &s.Flagged)
	if err != nil {
		return Summary{}, fmt.Errorf("count captures: %w", l.noted(err))
	}
	return s, nil
}
