package ledger

import (
	"context"
	"database/sql"
	"errors"
	"sync"
)

// maxStatements bounds a cache; the package has fewer queries than that.
const maxStatements = 64

// statements keeps compiled queries of one database: compiling a query of the
// ledger takes longer than running it.
type statements struct {
	db *sql.DB

	mu    sync.Mutex
	ready map[string]*sql.Stmt
}

func newStatements(db *sql.DB) *statements {
	return &statements{db: db, ready: map[string]*sql.Stmt{}}
}

// get returns a compiled query, or nil when there is none.
func (s *statements) get(query string) *sql.Stmt {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ready[query]
}

// compile makes query ready for the next time. It needs a free connection, so
// it must not be called within a transaction, and it waits for that without the
// lock, which those who have the connection need. Without room, or when the
// query can't be compiled, it does nothing: running it then tells why.
func (s *statements) compile(ctx context.Context, query string) {
	s.mu.Lock()
	full := s.ready[query] != nil || len(s.ready) >= maxStatements
	s.mu.Unlock()
	if full {
		return
	}
	stmt, err := s.db.PrepareContext(ctx, query)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ready[query] != nil {
		_ = stmt.Close() // another goroutine was first
		return
	}
	s.ready[query] = stmt
}

func (s *statements) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, stmt := range s.ready {
		errs = append(errs, stmt.Close())
	}
	clear(s.ready)
	return errors.Join(errs...)
}

// reader is a database for reading (or nothing, the zero value) whose queries are compiled once.
type reader struct {
	*sql.DB
	statements *statements
}

func newReader(db *sql.DB) reader { return reader{db, newStatements(db)} }

func (r reader) close() error { return errors.Join(r.statements.close(), r.Close()) }

func (r reader) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	r.statements.compile(ctx, query)
	if stmt := r.statements.get(query); stmt != nil {
		return stmt.QueryContext(ctx, args...)
	}
	return r.DB.QueryContext(ctx, query, args...)
}

func (r reader) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	r.statements.compile(ctx, query)
	if stmt := r.statements.get(query); stmt != nil {
		return stmt.QueryRowContext(ctx, args...)
	}
	return r.DB.QueryRowContext(ctx, query, args...)
}

// txn is a transaction whose queries are compiled once: what it meets for the
// first time is compiled behind it.
type txn struct {
	*sql.Tx
	statements *statements
	met        []string
}

func (t *txn) stmt(ctx context.Context, query string) *sql.Stmt {
	if stmt := t.statements.get(query); stmt != nil {
		return t.StmtContext(ctx, stmt)
	}
	t.met = append(t.met, query)
	return nil
}

func (t *txn) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if stmt := t.stmt(ctx, query); stmt != nil {
		return stmt.ExecContext(ctx, args...)
	}
	return t.Tx.ExecContext(ctx, query, args...)
}

func (t *txn) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if stmt := t.stmt(ctx, query); stmt != nil {
		return stmt.QueryContext(ctx, args...)
	}
	return t.Tx.QueryContext(ctx, query, args...)
}

func (t *txn) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	if stmt := t.stmt(ctx, query); stmt != nil {
		return stmt.QueryRowContext(ctx, args...)
	}
	return t.Tx.QueryRowContext(ctx, query, args...)
}
