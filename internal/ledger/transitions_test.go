package ledger

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The transitions as people read them in the design, apart from the code's own
// tables.
var (
	wantCaptureMoves = map[State]string{
		"":          "open sealed held queued done quarantined",
		StateOpen:   "sealed quarantined failed",
		Sealed:      "held queued done quarantined failed",
		Held:        "queued done purged quarantined failed",
		Queued:      "held done quarantined failed",
		Failed:      "queued quarantined",
		Quarantined: "queued held done",
		Done:        "purged",
		Purged:      "",
	}
	wantStepMoves = map[StepState]string{
		"":          "pending done",
		StepPending: "pending started skipped",
		StepStarted: "started pending done skipped failed",
		StepFailed:  "pending",
		StepDone:    "",
		StepSkipped: "",
	}
)

func TestOnlyTheTableOfCapturesIsAllowed(t *testing.T) {
	l := open(t, newPath(t), Options{})
	id := register(t, l, found("/a", "a"))[0].ID
	tried := 0
	for from := range wantCaptureMoves {
		for to := range wantCaptureMoves {
			want := slices.Contains(strings.Fields(wantCaptureMoves[from]), string(to))
			var err error
			if from == "" {
				f := found("/new"+string(to), string(to))
				f.State = to
				_, err = l.Register(t.Context(), []Found{f})
			} else {
				force(t, l, `UPDATE captures SET state = ? WHERE id = ?`, from, id)
				err = l.write(t.Context(), func(ctx context.Context, tx *txn) error {
					return move(ctx, tx, l.now(), id, "", func(c *captureRow, _ *stepRow) (stepAction, error) {
						c.state = to
						return leaveStep, nil
					})
				})
				if from == to {
					want = true // nothing changes
				}
			}
			var te *TransitionError
			switch {
			case want && err != nil:
				t.Errorf("%q to %q: %v", from, to, err)
			case !want && (!errors.As(err, &te) || te.From != string(from) || te.To != string(to)):
				t.Errorf("%q to %q: %v, want a transition error that names both", from, to, err)
			case !want && from != "" && get(t, l, id).State != from:
				t.Errorf("%q to %q was refused and written", from, to)
			}
			tried++
		}
	}
	if tried != 81 {
		t.Errorf("%d pairs tried", tried)
	}
}

func TestOnlyTheTableOfStepsIsAllowed(t *testing.T) {
	l := open(t, newPath(t), Options{})
	id := register(t, l, found("/a", "a"))[0].ID
	for from := range wantStepMoves {
		for to := range wantStepMoves {
			want := slices.Contains(strings.Fields(wantStepMoves[from]), string(to))
			if from == "" {
				if got := checkStep(id, "s", from, to) == nil; got != want {
					t.Errorf("new to %q: allowed %v", to, got)
				}
				continue
			}
			force(t, l, `INSERT OR REPLACE INTO steps (capture, name, state) VALUES (?, 's', ?)`, id, from)
			err := l.write(t.Context(), func(ctx context.Context, tx *txn) error {
				return move(ctx, tx, l.now(), id, "s", func(_ *captureRow, s *stepRow) (stepAction, error) {
					s.State = to
					return changeStep, nil
				})
			})
			var te *TransitionError
			if want && err != nil || !want && (!errors.As(err, &te) || te.From != string(from) || te.To != string(to) || te.Step != "s") {
				t.Errorf("%q to %q: %v, allowed should be %v", from, to, err, want)
			}
		}
	}
}

func TestStatesAreWrittenInOnePlace(t *testing.T) {
	files, err := filepath.Glob("*.go")
	ok(t, err)
	var all strings.Builder
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		b, err := os.ReadFile(name)
		ok(t, err)
		all.Write(b)
	}
	for _, tt := range []struct {
		pattern string
		n       int
	}{
		{`"state", c\.state`, 1},
		{"UPDATE captures SET `\\+set", 1}, // of what changed, the state among it
		{"UPDATE captures[^`]*[ ,\t\n]state *= *\\?", 0},
		{`UPDATE steps\b`, 1},
		{`INTO captures\b`, 1},
		{`INTO steps\b`, 2}, // Register's done inspection, and a first pending row
		{`(?i)REPLACE INTO (captures|steps)`, 0},
		{`DELETE FROM (captures|steps)`, 0},
	} {
		if n := len(regexp.MustCompile(tt.pattern).FindAllString(all.String(), -1)); n != tt.n {
			t.Errorf("%s occurs %d times, want %d", tt.pattern, n, tt.n)
		}
	}
}

// force writes what no method would.
func force(t testing.TB, l *Ledger, query string, args ...any) {
	t.Helper()
	_, err := l.w.ExecContext(t.Context(), query, args...)
	ok(t, err)
}
