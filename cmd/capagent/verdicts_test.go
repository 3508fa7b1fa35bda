package main

import (
	"context"
	"encoding/json"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"capagent/enrich/verdict"
	"capagent/internal/ledger"
)

// scriptRemember records what a source answered: remember SOURCE TYPE=VALUE
// [OWNER=RATING...]
func scriptRemember(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: remember SOURCE TYPE=VALUE [OWNER=RATING...]")
	}
	ctx := context.Background()
	l, err := ledger.Open(ctx, filepath.Join(ts.Getenv("CAPAGENT_AGENT_STATE_DIR"), "ledger.db"), ledger.Options{})
	ts.Check(err)
	defer func() { ts.Check(l.Close()) }()
	typ, value, _ := strings.Cut(args[1], "=")
	answer := ledger.Verdict{VerdictKey: ledger.VerdictKey{Type: typ, Value: value}, At: time.Now().Add(-90 * time.Minute)}
	var verdicts []verdict.Verdict
	for _, text := range args[2:] {
		owner, rating, _ := strings.Cut(text, "=")
		v := verdict.Verdict{Source: args[0], Owner: owner, Confidence: 80}
		v.Rating, err = strconv.ParseFloat(rating, 64)
		ts.Check(err)
		verdicts = append(verdicts, v)
	}
	if verdicts != nil {
		answer.Answer, err = json.Marshal(verdicts)
		ts.Check(err)
	}
	ts.Check(l.RememberVerdicts(ctx, args[0], []ledger.Verdict{answer}, 24*time.Hour, time.Hour))
}
