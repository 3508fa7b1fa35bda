package main

import (
	"context"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"capagent/internal/ledger"
)

// scriptSight records what captures held: sight CAPTURE TYPE=VALUE...
func scriptSight(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: sight CAPTURE TYPE=VALUE...")
	}
	id, err := strconv.ParseInt(args[0], 10, 64)
	ts.Check(err)
	ts.Check(recordSightings(context.Background(), ts.Getenv("CAPAGENT_AGENT_STATE_DIR"), id, args[1:]))
}

// recordSightings records that a capture held indicators, the nth in its nth frame.
func recordSightings(ctx context.Context, stateDir string, id int64, indicators []string) error {
	l, err := ledger.Open(ctx, filepath.Join(stateDir, "ledger.db"), ledger.Options{})
	if err != nil {
		return err
	}
	defer func() { _ = l.Close() }()
	var all []ledger.Sighting
	at := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC).AddDate(0, 0, int(id))
	for i, text := range indicators {
		typ, value, _ := strings.Cut(text, "=")
		all = append(all, ledger.Sighting{
			Type: typ, Value: value, Role: 4, FirstFrame: int64(i + 1), Count: 2, First: at, Last: at.Add(time.Second),
		})
	}
	return l.Sight(ctx, id, all)
}

func TestSinceIsAMoment(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	for text, want := range map[string]string{
		"": "0001-01-01T00:00:00Z", "12h": "2026-11-21T22:00:00Z", "7d": "2026-11-15T10:00:00Z",
		"2026-11-01": "2026-11-01T00:00:00Z", "2026-11-01T08:00:00+01:00": "2026-11-01T07:00:00Z",
		"yesterday": "", "-1h": "", "7": "",
	} {
		got, err := since(text, now)
		if want == "" && err == nil || want != "" && (err != nil || got.UTC().Format(time.RFC3339) != want) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}
