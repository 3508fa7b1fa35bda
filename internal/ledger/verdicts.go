package ledger

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"
)

// What the ledger keeps of verdicts. They lie in the ledger itself: 100,000 of them
// are some 15 MB, of which a look-up reads a few pages, and a file of its own would
// need all that sightings.db needs to be made, checked and shared. They are an
// earlier answer and no truth: losing them costs asking again.
const (
	MaxVerdicts      = 100_000  // beyond, the oldest go
	MaxVerdictAnswer = 64 << 10 // bytes of one answer
)

// verdictsAtOnce is how many are written in one transaction, or read by one query.
const verdictsAtOnce = 1000

// VerdictKey is an indicator that a source was asked for.
type VerdictKey struct {
	Type  string // one of SightingTypes
	Value string // in its one form
}

// Verdict is what a source answered.
type Verdict struct {
	VerdictKey
	Source  string
	Answer  json.RawMessage // a JSON array of at most MaxVerdictAnswer bytes; nil: nothing is known of it
	At      time.Time       // when it was answered
	Expires time.Time       // when it is to be asked again; RememberVerdicts says it
}

const verdictColumns = `source, type, value, known, answer, at, expires`

// verdictRow is a verdict as it lies in the ledger.
type verdictRow struct {
	Verdict
	seq    int64
	known  bool
	answer string
}

func verdictFields(v *verdictRow) []any {
	return []any{&v.seq, &v.Source, &v.Type, &v.Value, &v.known, &v.answer, (*stamp)(&v.At), (*stamp)(&v.Expires)}
}

// verdict returns the row's verdict. An answer in which a bit flipped counts for
// nothing.
func (v *verdictRow) verdict() (Verdict, bool) {
	if v.known {
		v.Answer = json.RawMessage(v.answer)
		return v.Verdict, json.Valid(v.Answer)
	}
	return v.Verdict, true
}

// verdictKey is the digest by which a verdict is found. Texts hold no NUL before the
// value, so that no two mean the same.
func verdictKey(source string, k VerdictKey) []byte {
	sum := sha256.Sum256([]byte(source + "\x00" + k.Type + "\x00" + k.Value))
	return sum[:16]
}

func checkVerdictKey(source string, k VerdictKey) error {
	switch {
	case source == "" || strings.ContainsRune(source, 0):
		return fmt.Errorf("%q is no source", clip(source, 40))
	case !slices.Contains(sightingTypes, k.Type):
		return fmt.Errorf("%q is no type of indicator", clip(k.Type, 40))
	case k.Value == "" || len(k.Value) > maxSighted:
		return fmt.Errorf("an indicator of %d bytes", len(k.Value))
	}
	return nil
}

// Verdicts returns what is remembered of a source's answers and not expired.
func (l *Ledger) Verdicts(ctx context.Context, source string, keys []VerdictKey) (map[VerdictKey]Verdict, error) {
	found := make(map[VerdictKey]Verdict, len(keys))
	now := l.now().UnixNano()
	for chunk := range slices.Chunk(keys, verdictsAtOnce) {
		digests := make([]string, len(chunk))
		asked := make(map[VerdictKey]bool, len(chunk))
		for i, k := range chunk {
			digests[i] = hex.EncodeToString(verdictKey(source, k))
			asked[k] = true
		}
		in, err := json.Marshal(digests)
		var rows []verdictRow
		if err == nil {
			rows, err = collect(ctx, l.r, verdictFields, `SELECT seq, `+verdictColumns+` FROM verdicts
				WHERE key IN (SELECT unhex(value) FROM json_each(?)) AND expires > ?`, string(in), now)
		}
		if err != nil {
			return nil, fmt.Errorf("read verdicts: %w", l.noted(err))
		}
		for _, r := range rows {
			// One that comes of the future was remembered before the clock was set back.
			if v, ok := r.verdict(); ok && v.Source == source && asked[v.VerdictKey] && v.At.UnixNano() <= now {
				found[v.VerdictKey] = v
			}
		}
	}
	return found, nil
}

// RememberVerdicts keeps a source's answers: for ttl those that say something, for
// negative those that say that nothing is known, counted from their At. Errors are
// not answers, so they must not be given. One that is too large, or of no
// indicator, is left out, which the error tells when all others are kept.
func (l *Ledger) RememberVerdicts(ctx context.Context, source string, answers []Verdict, ttl, negative time.Duration) error {
	var bad []error
	for chunk := range slices.Chunk(answers, verdictsAtOnce) {
		var refused []error
		err := l.write(ctx, func(ctx context.Context, tx *txn) error {
			refused = nil
			for _, v := range chunk {
				err := rememberVerdict(ctx, tx, source, v, ttl, negative)
				var r refusal
				if errors.As(err, &r) {
					refused = append(refused, err)
				} else if err != nil {
					return err
				}
			}
			_, err := tx.ExecContext(ctx, `DELETE FROM verdicts WHERE seq IN
				(SELECT seq FROM verdicts ORDER BY seq LIMIT max(0, (SELECT count(*) FROM verdicts) - ?))`, MaxVerdicts)
			return err
		})
		if err != nil {
			return fmt.Errorf("remember verdicts of %q: %w", clip(source, 40), err)
		}
		bad = append(bad, refused...)
	}
	if len(bad) > 0 {
		return fmt.Errorf("remember verdicts of %q: %d of %d are left out, the first: %w", clip(source, 40), len(bad), len(answers), bad[0])
	}
	return nil
}

// refusal says why one answer is not kept.
type refusal struct{ error }

func rememberVerdict(ctx context.Context, tx *txn, source string, v Verdict, ttl, negative time.Duration) error {
	if err := checkVerdictKey(source, v.VerdictKey); err != nil {
		return refusal{err}
	}
	known, life := v.Answer != nil, negative
	if known {
		life = ttl
		if len(v.Answer) > MaxVerdictAnswer || !json.Valid(v.Answer) {
			return refusal{fmt.Errorf("the answer of %.40q has %d bytes or is no JSON", v.Value, len(v.Answer))}
		}
	}
	if life <= 0 {
		return nil
	}
	_, err := tx.ExecContext(ctx, `INSERT OR REPLACE INTO verdicts (key, `+verdictColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
		verdictKey(source, v.VerdictKey), source, v.Type, v.Value, known, string(v.Answer),
		inRange(v.At).UnixNano(), inRange(v.At.Add(life)).UnixNano())
	return err
}

// VerdictFilter selects verdicts; an empty field selects all.
type VerdictFilter struct {
	Source  string
	Type    string
	Value   string // in its one form
	Known   bool   // only those that say something
	Expired bool   // only those that count no more
	Limit   int    // 0: no limit; ForgetVerdicts has none
}

func (l *Ledger) verdictConditions(f VerdictFilter) (string, []any) {
	where, args := "1", []any{}
	for _, c := range []struct{ column, value string }{{"source", f.Source}, {"type", f.Type}, {"value", f.Value}} {
		if c.value != "" {
			args = append(args, c.value)
			where += " AND " + c.column + " = ?" + strconv.Itoa(len(args))
		}
	}
	if f.Known {
		where += " AND known = 1"
	}
	if f.Expired {
		args = append(args, l.now().UnixNano())
		where += " AND expires <= ?" + strconv.Itoa(len(args))
	}
	return where, args
}

// ListVerdicts returns what is remembered, expired or not, the last remembered first.
// It reads a page at a time, as List does.
func (l *Ledger) ListVerdicts(ctx context.Context, f VerdictFilter) iter.Seq2[Verdict, error] {
	return func(yield func(Verdict, error) bool) {
		where, args := l.verdictConditions(f)
		before, n := int64(1)<<62, 0
		query := fmt.Sprintf(`SELECT seq, %s FROM verdicts WHERE %s AND seq < ?%d ORDER BY seq DESC LIMIT %d`, verdictColumns, where, len(args)+1, pageSize)
		for {
			rows, err := collect(ctx, l.r, verdictFields, query, append(args[:len(args):len(args)], before)...)
			if err != nil {
				yield(Verdict{}, fmt.Errorf("list verdicts: %w", l.noted(err)))
				return
			}
			for _, r := range rows {
				before = r.seq
				v, ok := r.verdict()
				if !ok {
					continue
				}
				if n++; !yield(v, nil) || n == f.Limit {
					return
				}
			}
			if len(rows) < pageSize {
				return
			}
		}
	}
}

// ForgetVerdicts drops what is remembered and returns how many that were.
func (l *Ledger) ForgetVerdicts(ctx context.Context, f VerdictFilter) (n int64, err error) {
	where, args := l.verdictConditions(f)
	err = l.write(ctx, func(ctx context.Context, tx *txn) error {
		r, err := tx.ExecContext(ctx, `DELETE FROM verdicts WHERE `+where, args...)
		if err == nil {
			n, err = r.RowsAffected()
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("forget verdicts: %w", err)
	}
	return n, nil
}
