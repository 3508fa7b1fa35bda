package ledger

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"testing"
	"time"
)

var big = flag.Int("big", 0, "captures of the ledger that TestALargeLedgerAnswersAtOnce makes and measures")

// makeBig fills a new ledger with n done captures, and n/10 queued ones of which
// the given share (0 to 100) waits. It writes the rows with SQL and makes the
// indexes after them, which is some thirty times faster than Register.
func makeBig(t testing.TB, n, waiting int) string {
	t.Helper()
	path := newPath(t)
	l := open(t, path, Options{})
	ok(t, l.Close())
	db := openDB(path, "_pragma=journal_mode(WAL)", "_pragma=synchronous(OFF)")
	defer db.Close()
	db.SetMaxOpenConns(1)
	exec := func(query string, args ...any) {
		t.Helper()
		if _, err := db.ExecContext(t.Context(), query, args...); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
	}
	type object struct{ kind, name, sql string }
	derived, err := collect(t.Context(), db, func(o *object) []any { return []any{&o.kind, &o.name, &o.sql} },
		`SELECT type, name, sql FROM sqlite_schema WHERE type IN ('index', 'trigger') AND sql IS NOT NULL`)
	ok(t, err)
	exec(`BEGIN`)
	for _, o := range derived {
		exec(`DROP ` + o.kind + ` ` + o.name)
	}
	now := time.Now()
	exec(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1 + ?1 / 10)
		INSERT INTO captures (id, source, path, name, case_name, destination, state, reason, owned, format, wrapper, size, payload_size,
			sha256, sha1, packets, packet_bytes, first_packet, last_packet, disorder, link_types, interfaces, truncated, note, tags, comment,
			method, keylog, session_name, session_id, session_url, begun, created, updated, not_before)
		SELECT i, 'capture:lan' || (i % 7), '/var/lib/capagent/spool/sensor-17-lan' || (i % 7) || '-' || i || '.pcapng', 'sensor-17-lan' || i || '.pcapng',
			CASE i % 100 WHEN 0 THEN 'IR-' || (i % 1000) ELSE '' END, ?2,
			CASE WHEN i > ?1 THEN 'queued' WHEN i % 1000 = 1 THEN 'failed' WHEN i % 500 = 2 THEN 'held' WHEN i % 3 = 0 THEN 'purged' ELSE 'done' END,
			CASE WHEN i % 1000 = 1 THEN 'cloudshark: too large' ELSE '' END, 1, 'pcapng', '', 1000000 + i, 1000000 + i,
			lower(hex(randomblob(32))), lower(hex(randomblob(20))), 1000, 900000, ?3 + i * 60000000000, ?3 + i * 60000000000 + 59000000000,
			0, '["EN10MB"]', 1, 0, '', '["site:hq","sensor:17"]', '', '', '', 'sensor-17-lan' || i || '.pcapng',
			CASE WHEN i > ?1 THEN '' ELSE substr(lower(hex(randomblob(6))), 1, 12) END, '', i <= ?1, ?3 + i * 60000000000, ?3 + i * 60000000000,
			CASE WHEN i > ?1 AND i % 100 < ?4 THEN ?5 + i * 1000000 END
		FROM n`, n, dest, now.UnixNano()-int64(n)*int64(time.Minute), waiting, now.Add(time.Minute).UnixNano())
	exec(`INSERT INTO steps (capture, name, state, attempts, updated) SELECT id, 'inspect', 'done', 1, created FROM captures`)
	exec(`INSERT INTO steps (capture, name, state, attempts, begun, updated, not_before)
		SELECT id, 'cloudshark', CASE state WHEN 'queued' THEN 'pending' WHEN 'failed' THEN 'failed' ELSE 'done' END, 1, 1, created, not_before
		FROM captures WHERE state NOT IN ('held')`)
	exec(`INSERT INTO counts SELECT state, owned, count(*), sum(size) FROM captures GROUP BY state, owned`)
	exec(`INSERT INTO files SELECT '/watch/' || id || '.pcap', '1:2:3', id FROM captures WHERE id % 10 = 0`)
	for _, o := range derived {
		exec(o.sql)
	}
	exec(`COMMIT`)
	exec(`PRAGMA wal_checkpoint(TRUNCATE)`)
	return path
}

func TestALargeLedgerAnswersAtOnce(t *testing.T) {
	if *big == 0 {
		t.Skip("-big 1000000 measures; a minute and 2 GB")
	}
	for _, waiting := range []int{0, 99} {
		t.Run(fmt.Sprintf("%d%% wait", waiting), func(t *testing.T) { measureBig(t, *big, waiting) })
	}
}

func measureBig(t *testing.T, n, waiting int) {
	begin := time.Now()
	path := makeBig(t, n, waiting)
	info, err := os.Stat(path)
	ok(t, err)
	t.Logf("made %d MB in %v", info.Size()>>20, time.Since(begin).Round(time.Millisecond))
	ctx := t.Context()
	begin = time.Now()
	l := open(t, path, Options{})
	took(t, "Open", begin, time.Second)
	ripe := open(t, path, Options{Now: func() time.Time { return time.Now().Add(time.Hour) }})
	list := func(f Filter) func() error {
		f.Newest, f.Limit = true, 100
		return func() error {
			for _, err := range l.List(ctx, f) {
				if err != nil {
					return err
				}
			}
			return nil
		}
	}
	for _, m := range []struct {
		name  string
		limit time.Duration
		call  func() error
	}{
		{"Due", 5 * time.Millisecond, func() error { return second(l.Due(ctx, dest, nil, 10)) }},
		{"Due, all ripe", 10 * time.Millisecond, func() error { return second(ripe.Due(ctx, dest, nil, 10)) }},
		{"NextDue", 5 * time.Millisecond, func() error { return second(l.NextDue(ctx, dest)) }},
		{"Counts", 50 * time.Millisecond, func() error { return second(l.Counts(ctx)) }},
		{"Owned", 5 * time.Millisecond, func() error { return second(l.Owned(ctx)) }},
		{"Expendable", 50 * time.Millisecond, func() error { return second(l.Expendable(ctx, time.Time{}, false, 100)) }},
		{"Expendable before", 50 * time.Millisecond, func() error { return second(l.Expendable(ctx, time.Now().Add(-time.Hour), false, 100)) }},
		{"Expendable held", 50 * time.Millisecond, func() error { return second(l.Expendable(ctx, time.Time{}, true, 100)) }},
		{"Files", 50 * time.Millisecond, func() error { return second(l.Files(ctx, "/watch/5", 100)) }},
		{"List", 100 * time.Millisecond, list(Filter{})},
		{"List after", 100 * time.Millisecond, list(Filter{After: int64(n / 2)})},
		{"List done", 100 * time.Millisecond, list(Filter{States: []State{Done}})},
		{"List failed", 100 * time.Millisecond, list(Filter{States: []State{Failed}})},
		{"List open", 100 * time.Millisecond, list(Filter{States: []State{StateOpen}})},
		{"List case", 100 * time.Millisecond, list(Filter{Case: "IR-100"})},
		{"List unknown case", 100 * time.Millisecond, list(Filter{Case: "x"})},
		{"List source", 100 * time.Millisecond, list(Filter{Source: "capture:lan3"})},
		{"List unknown source", 100 * time.Millisecond, list(Filter{Source: "x"})},
		{"List rare states", 100 * time.Millisecond, list(Filter{States: []State{StateOpen, Quarantined, Sealed}})},
		{"List state of case", 100 * time.Millisecond, list(Filter{States: []State{Done}, Case: "IR-300"})},
		{"List two states", 100 * time.Millisecond, list(Filter{States: []State{Failed, Held}})},
	} {
		begin := time.Now()
		ok(t, m.call())
		first := time.Since(begin)
		begin = time.Now()
		ok(t, m.call())
		t.Logf("%-20s first %8v", m.name, first.Round(10*time.Microsecond))
		took(t, m.name, begin, m.limit)
	}
	begin = time.Now()
	ok(t, l.Check(ctx))
	took(t, "Check", begin, time.Minute)
	t.Logf("RSS %d MB", rss(t)>>20)
	ok(t, errors.Join(l.Close(), ripe.Close()))
	takeBack(t, path)
	begin = time.Now()
	l = open(t, path, Options{})
	took(t, "upgrade", begin, 2*time.Minute)
	if s, err := l.Counts(ctx); err != nil || s.States[Queued].Captures != int64(n/10) {
		t.Errorf("%+v, %v", s, err)
	}
	t.Logf("RSS %d MB", rss(t)>>20)
}

// takeBack makes a ledger one of version 1.
func takeBack(t testing.TB, path string) {
	t.Helper()
	db := openDB(path, "_pragma=synchronous(OFF)")
	_, err := db.ExecContext(t.Context(), `
		DROP TRIGGER steps_wait; DROP TRIGGER captures_counted_new; DROP TRIGGER captures_counted_again;
		DROP INDEX captures_due; DROP INDEX captures_waiting; DROP INDEX captures_expendable; DROP INDEX captures_held; DROP INDEX captures_source;
		DROP TABLE counts; DROP TABLE files; DROP TABLE events;
		ALTER TABLE captures DROP COLUMN not_before;
		PRAGMA user_version = 1`)
	ok(t, errors.Join(err, db.Close()))
}

func took(t *testing.T, what string, since time.Time, limit time.Duration) {
	t.Helper()
	d := time.Since(since)
	t.Logf("%-20s %v", what, d.Round(10*time.Microsecond))
	if d > limit {
		t.Errorf("%s took %v, more than %v", what, d, limit)
	}
}

// rss is the memory that this process has in use, in bytes; 0 where the system
// doesn't say.
func rss(t testing.TB) int64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	var total, resident int64
	_, err = fmt.Sscan(string(text), &total, &resident)
	ok(t, err)
	return resident * int64(os.Getpagesize())
}
