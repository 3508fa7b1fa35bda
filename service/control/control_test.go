package control_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"capagent/internal/config"
	"capagent/internal/failure"
	"capagent/internal/ledger"
	"capagent/internal/secret"
	"capagent/service"
	"capagent/service/control"
)

func TestAListIsWhatTheLedgerSays(t *testing.T) {
	each(t, 1203, func(t *testing.T, r *running, c *control.Client) {
		for _, f := range []ledger.Filter{
			{},
			{Newest: true, Limit: 7},
			{After: 1199},
			{After: 5, Newest: true},
			{Limit: 600},
			{States: []ledger.State{ledger.Queued}},
			{States: []ledger.State{ledger.Held, ledger.Quarantined}},
			{Case: "2026-1", Limit: 3},
			{Source: "import", Destination: dest + ":8443"},
			{Source: "nobody"},
			{IDs: []int64{7, 5, 99999}},
		} {
			var want []service.View
			for capture, err := range r.ledger.List(t.Context(), f) {
				if err != nil {
					t.Fatal(err)
				}
				want = append(want, service.NewView(capture))
			}
			got, err := collect(c.List(t.Context(), f))
			if diff := cmp.Diff(want, got); err != nil || diff != "" {
				t.Errorf("%+v: %v\n%s", f, err, diff)
			}
		}
		// Whoever has seen enough leaves, and the next call is answered.
		for range c.List(t.Context(), ledger.Filter{}) {
			break
		}
		if _, err := collect(c.List(t.Context(), ledger.Filter{Limit: 1})); err != nil {
			t.Error(err)
		}
	})
}

func TestShowFindsWhatTheLedgerFinds(t *testing.T) {
	each(t, 8, func(t *testing.T, r *running, c *control.Client) {
		for _, id := range []string{
			"1", "4", "0000000000000000000000000000000000000000000000000000000000000001", "99", "-1", "abcdef", "000000",
			"..", ".", "../status", "a/b", "a%2fb", "?limit=1", "#", "\x00", "ü \n", "1 ", strings.Repeat("f", 5000),
		} {
			want, wantErr := r.ledger.Lookup(t.Context(), id)
			got, err := c.Show(t.Context(), id)
			switch {
			case wantErr == nil:
				full, err2 := service.FullView(t.Context(), r.ledger, want)
				if diff := cmp.Diff(full, got); err != nil || err2 != nil || diff != "" {
					t.Errorf("%q: %v, %v\n%s", id, err, err2, diff)
				}
			case err == nil || err.Error() != wantErr.Error():
				t.Errorf("%.20q: %v\nwant %v", id, err, wantErr)
			case errors.Is(err, ledger.ErrNotFound) != errors.Is(wantErr, ledger.ErrNotFound),
				errors.Is(err, ledger.ErrAmbiguous) != errors.Is(wantErr, ledger.ErrAmbiguous):
				t.Errorf("%q: %v is another kind of error", id, err)
			}
		}
	})
}

func TestStatusArrivesWhole(t *testing.T) {
	each(t, 9, func(t *testing.T, r *running, c *control.Client) {
		now := time.Now().UTC()
		sent := int64(12)
		text := "no such file"
		r.status = func(ctx context.Context) (control.Status, error) {
			cfg := service.DefaultConfig()
			s, err := control.Recorded(ctx, "1.2.3", &cfg, r.ledger)
			s.Agent = &control.Agent{
				PID: 4711, Started: now, State: control.Degraded, Text: "1 problem",
				Uploading:   []control.Uploading{{ID: 3, Name: "x\x1b", Size: 20, Sent: &sent}, {ID: 4}},
				ConfigError: &text, Destination: control.DestinationState{State: service.DoorProbing},
			}
			return s, err
		}
		want, err := r.status(t.Context())
		if err != nil || len(want.Captures) != 3 {
			t.Fatalf("%+v, %v", want, err)
		}
		want.Agent.Problems, want.Agent.Watches, want.Agent.Captures = []control.Problem{}, []control.Watch{}, []control.Capture{} // never null
		want.Agent.Names, want.Agent.Deliveries, want.Agent.Blocked = []control.Names{}, []control.Delivery{}, []control.Blocked{}
		got, err := c.Status(t.Context())
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%v\n%s", err, diff)
		}
	})
}

func TestDeedsAreAskedOfTheAgent(t *testing.T) {
	each(t, 3, func(t *testing.T, r *running, c *control.Client) {
		var asked string
		var answer error
		r.retry = func(_ context.Context, ids []int64, all bool) (int, error) {
			asked = fmt.Sprintf("retry %d %t", ids, all)
			return 2, answer
		}
		r.reload = func(context.Context) error {
			asked = "reload"
			return answer
		}
		r.rotate = func(_ context.Context, name string) ([]control.Rotated, error) {
			asked = "rotate " + name
			return []control.Rotated{{Name: "lan", Files: 1}}, answer
		}
		rotate := func(name string) (int, error) {
			all, err := c.Rotate(t.Context(), name)
			if err != nil {
				return 0, err
			}
			return all[0].Files, nil
		}
		for _, tc := range []struct {
			do   func() (int, error)
			want string
			n    int
		}{
			{func() (int, error) { return c.Retry(t.Context(), []int64{1, 3}, false) }, "retry [1 3] false", 2},
			{func() (int, error) { return c.Retry(t.Context(), nil, true) }, "retry [] true", 2},
			{func() (int, error) { return c.Retry(t.Context(), nil, false) }, "retry [] false", 2},
			{func() (int, error) { return 0, c.Reload(t.Context()) }, "reload", 0},
			{func() (int, error) { return rotate("") }, "rotate ", 1},
			{func() (int, error) { return rotate("lan") }, "rotate lan", 1},
		} {
			asked, answer = "", nil
			if n, err := tc.do(); err != nil || n != tc.n || asked != tc.want {
				t.Errorf("%d, %v; asked %q, want %q", n, err, asked, tc.want)
			}
			answer = errSome
			if _, err := tc.do(); err == nil || err.Error() != errSome.Error() {
				t.Errorf("%s: %v", tc.want, err)
			}
			answer = fmt.Errorf("door: %w", &failure.Error{Class: "x", Hint: "turn the key", Err: errSome})
			var f *failure.Error
			if _, err := tc.do(); !errors.As(err, &f) || f.Hint != "turn the key" || err.Error() != "door: some error" {
				t.Errorf("%s: %v", tc.want, err)
			}
		}
		answer = config.Errors{{Key: "a", Err: errSome}, {Key: "b", Err: errSome}}
		var told *control.Error
		if err := c.Reload(t.Context()); !errors.As(err, &told) || told.Status != 422 || err.Error() != answer.Error() {
			t.Errorf("%v: %+v", err, told)
		}
		if _, err := c.Retry(t.Context(), []int64{0}, false); !errors.As(err, &told) || told.Status != 400 {
			t.Errorf("%v", err)
		}
		for _, e := range []struct {
			answer error
			status int
		}{{ledger.ErrNotFound, 404}, {ledger.ErrBusy, 423}, {ledger.ErrAmbiguous, 409}, {errSome, 500}} {
			answer = fmt.Errorf("capture 9: %w", e.answer)
			if _, err := c.Retry(t.Context(), []int64{9}, false); !errors.As(err, &told) || told.Status != e.status {
				t.Errorf("%v: %+v", err, told)
			}
		}
	})
}

func TestVerifyFindsWhatServiceFinds(t *testing.T) {
	each(t, 700, func(t *testing.T, r *running, c *control.Client) {
		for _, ids := range [][]int64{nil, {3, 1, 4}, {2, 99}} {
			var want, got []service.VerifyEntry
			into := func(all *[]service.VerifyEntry) func(service.VerifyEntry) {
				return func(e service.VerifyEntry) { *all = append(*all, e) }
			}
			all, wantErr := service.Verify(t.Context(), r.ledger, service.VerifyOptions{IDs: ids, OnCapture: into(&want)})
			told, err := c.Verify(t.Context(), ids, into(&got))
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%d: %s", ids, diff)
			}
			if wantErr != nil {
				if err == nil || err.Error() != wantErr.Error() {
					t.Errorf("%d: %v, want %v", ids, err, wantErr)
				}
				continue
			}
			if diff := cmp.Diff(all, told); err != nil || diff != "" {
				t.Errorf("%d: %v\n%s", ids, err, diff)
			}
		}
	})
}

func TestVerifyingIsDoneOnceAtATime(t *testing.T) {
	each(t, 1, func(t *testing.T, r *running, c *control.Client) {
		// A file that nobody reads to its end, and that takes no room.
		endless := filepath.Join(t.TempDir(), "endless.pcap")
		if err := errors.Join(os.WriteFile(endless, nil, 0o600), os.Truncate(endless, 1<<38)); err != nil {
			t.Fatal(err)
		}
		_, err := r.ledger.Register(t.Context(), []ledger.Found{{
			Source: "import", Path: endless, Name: "endless", Destination: dest, State: ledger.Queued,
			Inspection: ledger.Inspection{SHA256: strings.Repeat("f", 64), Size: 1 << 38},
		}})
		if err != nil {
			t.Fatal(err)
		}
		other := r.dial(t)
		one := func() error {
			_, err := other.Verify(t.Context(), []int64{1}, func(service.VerifyEntry) {})
			return err
		}
		ctx, leave := context.WithCancel(t.Context())
		var told *control.Error
		_, err = c.Verify(ctx, nil, func(service.VerifyEntry) { // of the first; the agent is at the endless one
			if err := one(); !errors.As(err, &told) || told.Status != 423 {
				t.Errorf("%v", err)
			}
			leave()
		})
		if !errors.Is(err, context.Canceled) || told == nil {
			t.Errorf("%v", err)
		}
		// Whoever leaves frees the place.
		for err = one(); err != nil; err = one() {
			if !errors.As(err, &told) || told.Status != 423 {
				t.Fatal(err)
			}
		}
	})
}

func TestAMistakeOfTheAgentsOwnEndsNothing(t *testing.T) {
	each(t, 3, func(t *testing.T, r *running, c *control.Client) {
		r.status = func(context.Context) (control.Status, error) { panic("index out of range") }
		if _, err := c.Status(t.Context()); err == nil || !strings.Contains(err.Error(), "its log says more") {
			t.Errorf("%v", err)
		}
		if log := r.log.String(); !strings.Contains(log, "panic: index out of range") || !strings.Contains(log, "control_test.go") {
			t.Errorf("log: %s", log)
		}
		r.status = func(context.Context) (control.Status, error) { return control.Status{Version: "1"}, nil }
		if v, err := c.Status(t.Context()); err != nil || v.Version != "1" {
			t.Errorf("%+v, %v", v, err)
		}
	})
}

func TestAnErrorBehindTheFirstLinesIsTold(t *testing.T) {
	each(t, 3, func(t *testing.T, r *running, c *control.Client) {
		if err := r.ledger.Close(); err != nil {
			t.Fatal(err)
		}
		all, err := collect(c.List(t.Context(), ledger.Filter{}))
		if err == nil || !strings.Contains(err.Error(), "list captures") || len(all) != 0 {
			t.Errorf("%v, %v", all, err)
		}
	})
}

func TestNoSecretLeavesTheAgent(t *testing.T) {
	const canary = "c0ffee00deadbeefc0ffee00deadbeef"
	for _, way := range ways() {
		r := start(t, way, 3, secret.New(canary))
		c := r.dial(t)
		r.status = func(context.Context) (control.Status, error) {
			return control.Status{Destination: "https://cs.example/api/v1/" + canary}, nil
		}
		r.reload = func(context.Context) error { return errors.New("bad " + strings.ToUpper(canary)) }
		v, err := c.Status(t.Context())
		if err != nil || v.Destination != "https://cs.example/api/v1/***" {
			t.Errorf("%v, %v", v, err)
		}
		if err := c.Reload(t.Context()); err == nil || err.Error() != "bad ***" {
			t.Errorf("%v", err)
		}
	}
}

func TestServeEndsWithItsCalls(t *testing.T) {
	each(t, 3, func(t *testing.T, r *running, c *control.Client) {
		entered := make(chan struct{})
		left := false
		r.status = func(ctx context.Context) (control.Status, error) {
			close(entered)
			<-ctx.Done()
			left = true
			return control.Status{}, ctx.Err()
		}
		failed := make(chan error, 1)
		go func() {
			_, err := c.Status(t.Context())
			failed <- err
		}()
		<-entered
		if err := r.stop(); err != nil || !left {
			t.Errorf("%v; the call had ended: %v", err, left)
		}
		if err := <-failed; !errors.Is(err, control.ErrGone) || !strings.Contains(err.Error(), "the agent is stopping") {
			t.Errorf("%v", err)
		}
		if _, err := c.Status(t.Context()); !errors.Is(err, control.ErrNoAgent) {
			t.Errorf("%v", err)
		}
		if _, err := control.Dial(t.Context(), r.where); !errors.Is(err, control.ErrNoAgent) {
			t.Errorf("%v", err)
		}
	})
}

func TestACallerWhoGoesAwayEndsHisCall(t *testing.T) {
	each(t, 3, func(t *testing.T, r *running, c *control.Client) {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		r.reload = func(inner context.Context) error {
			cancel()
			<-inner.Done()
			ended <- inner.Err()
			return inner.Err()
		}
		if err := c.Reload(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		<-ended
	})
}
