package control_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"capagent/internal/config"
	"capagent/internal/failure"
	"capagent/internal/ledger"
	"capagent/service/control"
	"capagent/service/control/local"
)

// A trigger goes over as it was asked for, and what became of it comes back; one
// too many is refused with the time to wait.
func TestTriggers(t *testing.T) {
	each(t, 3, func(t *testing.T, r *running, c *control.Client) {
		var got control.TriggerRequest
		r.ask = func(ctx context.Context, ask control.TriggerRequest) (control.Trigger, error) {
			if got = ask; ask.Capture == "wan" {
				return control.Trigger{}, &control.Error{Status: http.StatusTooManyRequests, Text: "too many", Hint: "wait", RetryAfter: 90*time.Second + 1}
			}
			now := time.Now()
			one, err := r.ledger.AddTrigger(ctx, ledger.Trigger{Asked: now, From: now, To: now, By: ask.By, Reason: ask.Reason, Source: "capture:lan"})
			return control.NewTrigger(one), err
		}
		before := config.Duration(5 * time.Minute)
		v, err := c.Trigger(t.Context(), control.TriggerRequest{Before: &before, Reason: "slow\x1b", Capture: "lan", By: "me"})
		if err != nil || *got.Before != before || got.After != nil || got.Reason != "slow\x1b" || v.Capture != "lan" || v.Ended != nil || v.Captures == nil {
			t.Fatalf("%+v, %+v, %v", got, v, err)
		}
		if err := r.ledger.EndTrigger(t.Context(), v.ID, ledger.TriggerResult{Captures: []int64{2}, Note: "some"}); err != nil {
			t.Fatal(err)
		}
		if err := r.ledger.EndTrigger(t.Context(), v.ID, ledger.TriggerResult{Error: "again"}); err != nil {
			t.Fatal(err)
		}
		v, err = c.Triggered(t.Context(), v.ID)
		if err != nil || v.Ended == nil || len(v.Captures) != 1 || *v.Note != "some" || v.Error != nil {
			t.Errorf("%+v, %v", v, err)
		}
		if _, err := c.Triggered(t.Context(), 77); !errors.Is(err, ledger.ErrNotFound) {
			t.Error(err)
		}
		if _, err := c.Trigger(t.Context(), control.TriggerRequest{Capture: "wan"}); err == nil || failure.As(err).Hint != "wait" {
			t.Error(err)
		}
		e, err := local.Find(r.where)
		if err != nil {
			t.Fatal(err)
		}
		for body, want := range map[string]int{`{"capture":"wan"}`: 429, `{"before":"-1s"}`: 400, `{"before":5}`: 400, `{"whose":1}`: 400, ``: 200} {
			resp, told := r.raw(t, fmt.Sprintf("POST /v1/trigger HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n%s",
				e.Host(), e.Token, len(body), body))
			if resp.StatusCode != want || (resp.Header.Get("Retry-After") == "91") != (want == 429) {
				t.Errorf("%s: %d %s, %+v", body, resp.StatusCode, resp.Header.Get("Retry-After"), told)
			}
		}
	})
}
