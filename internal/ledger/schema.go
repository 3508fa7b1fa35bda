package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// applicationID marks the file as a capagent ledger ("cpag") in SQLite's
// header, where file(1) and others can see it.
const applicationID = 0x63706167

// migrations[n] takes a ledger of version n to version n+1. An entry never
// changes once it is released; testdata keeps a ledger of every version.
//
// Times are nanoseconds since 1970 UTC, NULL for "no time". Texts may hold any
// bytes: paths on Linux are bytes. "begun" stays 1 from the first claim on, also
// when the claim was given back, because from then on something may have
// happened on the other side. The CHECKs are for quick_check, which then finds a
// row that could not be read; checking the JSON of lists would double the time of Open.
//
// Triggers keep what is derived (captures.not_before, counts) in the same
// transaction, whoever writes. The events are what the audit log does not have yet.
var migrations = []string{`
CREATE TABLE meta (
	key   TEXT PRIMARY KEY,
	value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE captures (
	id                 INTEGER PRIMARY KEY AUTOINCREMENT,
	source             TEXT NOT NULL,
	path               TEXT NOT NULL,
	name               TEXT NOT NULL,
	case_name          TEXT NOT NULL,
	destination        TEXT NOT NULL,
	state              TEXT NOT NULL CHECK (state IN
		('open', 'sealed', 'held', 'queued', 'done', 'purged', 'quarantined', 'failed')),
	reason             TEXT NOT NULL,
	owned              INTEGER NOT NULL CHECK (owned IN (0, 1)),
	format             TEXT NOT NULL,
	wrapper            TEXT NOT NULL,
	size               INTEGER NOT NULL,
	payload_size       INTEGER NOT NULL,
	sha256             TEXT NOT NULL,
	sha1               TEXT NOT NULL,
	packets            INTEGER NOT NULL,
	packet_bytes       INTEGER NOT NULL,
	first_packet       INTEGER,
	last_packet        INTEGER,
	disorder           INTEGER NOT NULL,
	link_types         TEXT NOT NULL,
	interfaces         INTEGER NOT NULL,
	truncated          INTEGER NOT NULL CHECK (truncated IN (0, 1)),
	note               TEXT NOT NULL,
	tags               TEXT NOT NULL,
	comment            TEXT NOT NULL,
	method             TEXT NOT NULL,
	keylog             TEXT NOT NULL,
	session_name       TEXT NOT NULL DEFAULT '',
	session_id         TEXT NOT NULL DEFAULT '',
	session_url        TEXT NOT NULL DEFAULT '',
	duplicate_of       INTEGER NOT NULL DEFAULT 0,
	possible_duplicate INTEGER NOT NULL DEFAULT 0 CHECK (possible_duplicate IN (0, 1)),
	begun              INTEGER NOT NULL DEFAULT 0 CHECK (begun IN (0, 1)),
	created            INTEGER,
	updated            INTEGER
) STRICT;
CREATE UNIQUE INDEX captures_identity ON captures(path, sha256, destination);
CREATE INDEX captures_content ON captures(sha256, destination);
CREATE INDEX captures_begun ON captures(sha256, destination) WHERE begun = 1;
CREATE INDEX captures_state ON captures(state, id, size);
CREATE INDEX captures_case ON captures(case_name, id) WHERE case_name <> '';
CREATE INDEX captures_session ON captures(session_id) WHERE session_id <> '';
CREATE INDEX captures_possible_duplicate ON captures(id) WHERE possible_duplicate = 1;

CREATE TABLE steps (
	capture    INTEGER NOT NULL REFERENCES captures(id),
	name       TEXT NOT NULL,
	state      TEXT NOT NULL CHECK (state IN ('pending', 'started', 'done', 'skipped', 'failed')),
	attempts   INTEGER NOT NULL DEFAULT 0,
	not_before INTEGER,
	class      TEXT NOT NULL DEFAULT '',
	error      TEXT NOT NULL DEFAULT '',
	note       TEXT NOT NULL DEFAULT '',
	owner      TEXT NOT NULL DEFAULT '',
	begun      INTEGER NOT NULL DEFAULT 0 CHECK (begun IN (0, 1)),
	updated    INTEGER,
	PRIMARY KEY (capture, name)
) STRICT;
CREATE INDEX steps_waiting ON steps(capture) WHERE not_before IS NOT NULL;

CREATE TABLE parts (
	capture            INTEGER NOT NULL REFERENCES captures(id),
	number             INTEGER NOT NULL,
	part_count         INTEGER NOT NULL,
	prefix             BLOB NOT NULL,
	start              INTEGER NOT NULL,
	length             INTEGER NOT NULL,
	size               INTEGER NOT NULL,
	sha256             TEXT NOT NULL,
	sha1               TEXT NOT NULL,
	packets            INTEGER NOT NULL,
	first_packet       INTEGER,
	last_packet        INTEGER,
	name               TEXT NOT NULL,
	session_id         TEXT NOT NULL DEFAULT '',
	possible_duplicate INTEGER NOT NULL DEFAULT 0 CHECK (possible_duplicate IN (0, 1)),
	PRIMARY KEY (capture, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX parts_session ON parts(session_id) WHERE session_id <> '';

CREATE TABLE pauses (
	destination TEXT PRIMARY KEY,
	class       TEXT NOT NULL,
	reason      TEXT NOT NULL,
	since       INTEGER,
	until       INTEGER
) STRICT, WITHOUT ROWID;
`, `
-- the latest not_before of a capture's steps, so that an index can tell what is due
ALTER TABLE captures ADD COLUMN not_before INTEGER;
UPDATE captures SET not_before = (SELECT max(not_before) FROM steps WHERE capture = captures.id)
	WHERE id IN (SELECT capture FROM steps WHERE not_before IS NOT NULL);
CREATE TRIGGER steps_wait AFTER UPDATE OF not_before ON steps WHEN new.not_before IS NOT old.not_before BEGIN
	UPDATE captures SET not_before = (SELECT max(not_before) FROM steps WHERE capture = new.capture) WHERE id = new.capture;
END;
CREATE INDEX captures_due ON captures(destination, coalesce(first_packet, created), id)
	WHERE state = 'queued' AND not_before IS NULL;
CREATE INDEX captures_waiting ON captures(destination, not_before, coalesce(first_packet, created), id)
	WHERE state = 'queued' AND not_before IS NOT NULL;
CREATE INDEX captures_expendable ON captures(coalesce(last_packet, created), id)
	WHERE owned = 1 AND state = 'done' AND (session_id <> '' OR packets = 0);
CREATE INDEX captures_held ON captures(coalesce(last_packet, created), id)
	WHERE owned = 1 AND state = 'held';
CREATE INDEX captures_source ON captures(source, id);

CREATE TABLE counts (
	state    TEXT NOT NULL,
	owned    INTEGER NOT NULL,
	captures INTEGER NOT NULL,
	bytes    INTEGER NOT NULL,
	PRIMARY KEY (state, owned)
) STRICT, WITHOUT ROWID;
INSERT INTO counts SELECT state, owned, count(*), sum(size) FROM captures GROUP BY state, owned;
CREATE TRIGGER captures_counted_new AFTER INSERT ON captures BEGIN
	INSERT INTO counts VALUES (new.state, new.owned, 1, new.size)
		ON CONFLICT DO UPDATE SET captures = captures + 1, bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER captures_counted_again AFTER UPDATE OF state, owned, size ON captures
WHEN new.state <> old.state OR new.owned <> old.owned OR new.size <> old.size BEGIN
	UPDATE counts SET captures = captures - 1, bytes = bytes - old.size WHERE state = old.state AND owned = old.owned;
	INSERT INTO counts VALUES (new.state, new.owned, 1, new.size)
		ON CONFLICT DO UPDATE SET captures = captures + 1, bytes = bytes + excluded.bytes;
END;

CREATE TABLE files (
	path    TEXT PRIMARY KEY,
	stamp   TEXT NOT NULL,
	capture INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE events (
	seq     INTEGER PRIMARY KEY AUTOINCREMENT,
	time    INTEGER NOT NULL,
	name    TEXT NOT NULL,
	capture INTEGER NOT NULL,
	data    TEXT NOT NULL
) STRICT;
`, `
-- what is known of captures that the agent took itself, a JSON object
ALTER TABLE captures ADD COLUMN live TEXT NOT NULL DEFAULT '';
`, `
-- windows of time that somebody asked for; result is a JSON object once it has ended
CREATE TABLE triggers (
	id     INTEGER PRIMARY KEY AUTOINCREMENT,
	asked  INTEGER NOT NULL,
	start  INTEGER NOT NULL,
	stop   INTEGER NOT NULL,
	asker  TEXT NOT NULL,
	reason TEXT NOT NULL,
	source TEXT NOT NULL,
	ended  INTEGER,
	result TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX triggers_asked ON triggers(asked);
CREATE INDEX triggers_open ON triggers(id) WHERE ended IS NULL;
`, `
-- what the flows of a capture were, in a few lines for people
ALTER TABLE captures ADD COLUMN summary TEXT NOT NULL DEFAULT '';
`, `
-- what sources said of indicators; key is a digest of source, type and value, so
-- that a long value lies in the table only, and seq tells what is oldest
CREATE TABLE verdicts (
	seq     INTEGER PRIMARY KEY AUTOINCREMENT,
	key     BLOB NOT NULL UNIQUE,
	source  TEXT NOT NULL,
	type    TEXT NOT NULL,
	value   TEXT NOT NULL,
	known   INTEGER NOT NULL CHECK (known IN (0, 1)),
	answer  TEXT NOT NULL,
	at      INTEGER NOT NULL,
	expires INTEGER NOT NULL
) STRICT;

-- the indicators of captures with verdicts that count; gone says that it is none
-- any more, and keeps what was done for it
ALTER TABLE captures ADD COLUMN findings INTEGER NOT NULL DEFAULT 0;
CREATE INDEX captures_flagged ON captures(id) WHERE findings > 0;
CREATE TABLE findings (
	id         INTEGER PRIMARY KEY AUTOINCREMENT,
	capture    INTEGER NOT NULL REFERENCES captures(id),
	type       TEXT NOT NULL,
	value      TEXT NOT NULL,
	frame      INTEGER NOT NULL,
	count      INTEGER NOT NULL,
	rating     REAL NOT NULL,
	confidence INTEGER NOT NULL,
	data       TEXT NOT NULL,
	found      INTEGER NOT NULL,
	gone       INTEGER NOT NULL DEFAULT 0 CHECK (gone IN (0, 1)),
	UNIQUE (capture, type, value)
) STRICT;

-- what is done for a finding on the other side, once each; no row: not begun
CREATE TABLE acts (
	finding INTEGER NOT NULL REFERENCES findings(id),
	name    TEXT NOT NULL,
	state   TEXT NOT NULL CHECK (state IN ('pending', 'started', 'done', 'failed')),
	error   TEXT NOT NULL DEFAULT '',
	updated INTEGER NOT NULL,
	PRIMARY KEY (finding, name)
) STRICT, WITHOUT ROWID;
`, `
-- how many indicators of a capture were not answered for, and are asked again
ALTER TABLE captures ADD COLUMN unanswered INTEGER NOT NULL DEFAULT 0;
-- what its findings are, in a few lines for people
ALTER TABLE captures ADD COLUMN threats TEXT NOT NULL DEFAULT '';
CREATE INDEX captures_unanswered ON captures(id) WHERE unanswered > 0;
`, `
-- the machines of a capture: a few lines for people, and all that is known as JSON
ALTER TABLE captures ADD COLUMN machines TEXT NOT NULL DEFAULT '';
ALTER TABLE captures ADD COLUMN devices TEXT NOT NULL DEFAULT '';

-- where a capture is brought besides its session, one row for each destination of
-- that kind
CREATE TABLE deliveries (
	capture    INTEGER NOT NULL REFERENCES captures(id),
	destination TEXT NOT NULL,
	state      TEXT NOT NULL CHECK (state IN ('pending', 'done', 'skipped', 'failed')),
	note       TEXT NOT NULL DEFAULT '',
	link       TEXT NOT NULL DEFAULT '',
	progress   TEXT NOT NULL DEFAULT '{}',
	attempts   INTEGER NOT NULL DEFAULT 0,
	class      TEXT NOT NULL DEFAULT '',
	error      TEXT NOT NULL DEFAULT '',
	not_before INTEGER,
	updated    INTEGER NOT NULL,
	PRIMARY KEY (capture, destination)
) STRICT, WITHOUT ROWID;
CREATE INDEX deliveries_open ON deliveries(destination, capture) WHERE state = 'pending';
`}

// schemaProbe fails when a table or column that this version uses is missing.
var schemaProbe = []string{
	`SELECT ` + captureColumns + `, begun FROM captures LIMIT 0`,
	`SELECT ` + stepColumns + `, owner, begun FROM steps LIMIT 0`,
	`SELECT ` + partColumns + ` FROM parts LIMIT 0`,
	`SELECT destination, class, reason, since, until FROM pauses LIMIT 0`,
	`SELECT key, value FROM meta LIMIT 0`,
	`SELECT not_before FROM captures LIMIT 0`,
	`SELECT state, owned, captures, bytes FROM counts LIMIT 0`,
	`SELECT path, stamp, capture FROM files LIMIT 0`,
	`SELECT seq, time, name, capture, data FROM events LIMIT 0`,
	`SELECT ` + triggerColumns + ` FROM triggers LIMIT 0`,
	`SELECT ` + verdictColumns + `, seq, key FROM verdicts LIMIT 0`,
	`SELECT ` + findingColumns + `, capture, gone FROM findings LIMIT 0`,
	`SELECT finding, name, state, error, updated FROM acts LIMIT 0`,
	`SELECT unanswered, devices FROM captures LIMIT 0`,
	`SELECT ` + deliveryColumns + ` FROM deliveries LIMIT 0`,
}

// migrate brings the ledger to the current version in one transaction: after a
// crash there is either the old ledger or the whole new one.
func migrate(ctx context.Context, db *sql.DB, from int, rebuilt time.Time) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after the commit
	for n := from; n < len(migrations); n++ {
		if _, err := tx.ExecContext(ctx, migrations[n]); err != nil {
			return fmt.Errorf("migrate from version %d: %w", n, err)
		}
	}
	pragmas := fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d", applicationID, len(migrations))
	if _, err := tx.ExecContext(ctx, pragmas); err != nil {
		return err
	}
	if !rebuilt.IsZero() {
		now := inRange(rebuilt).UnixNano()
		_, err1 := tx.ExecContext(ctx, `INSERT INTO meta (key, value) VALUES ('rebuilt', ?)`, fmt.Sprint(now))
		_, err2 := tx.ExecContext(ctx, insertEvent, now, EventRebuilt, 0, "{}")
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
	}
	return tx.Commit()
}
