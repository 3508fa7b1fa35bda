package daemon

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"capagent/internal/ledger"
	"capagent/internal/quote"
	"capagent/service"
	"capagent/service/control"
)

// A trigger that could not be carried out, for want of room or the like, is tried
// again after so long, and so often.
const (
	triggerAgain = 30 * time.Second
	triggerTries = 20
)

// mostTriggers bounds those that wait for the end of their windows.
const mostTriggers = 100

// triggeredName is that of a capture that a trigger made.
var triggeredName = regexp.MustCompile(`^trigger-\d{6,}_\d{8}T\d{6}Z\.pcapng$`)

func nameOf(t ledger.Trigger) string {
	return fmt.Sprintf("trigger-%06d_%s.pcapng", t.ID, t.From.UTC().Format("20060102T150405Z"))
}

// triggers release windows of what is held. Each is in the ledger before anybody
// is told of it, and stays there until it is carried out, whatever happens to the
// process.
type triggers struct {
	d      *Daemon
	asking sync.Mutex // one at a time: each counts towards the limit
	wake   chan struct{}

	mu   sync.Mutex
	open []*asked
	logs map[string]*followed // by the trigger's name
}

// asked is a trigger that is to be carried out.
type asked struct {
	ledger.Trigger
	due   time.Time // not before; the window's end first
	tries int
}

func newTriggers(d *Daemon) *triggers {
	return &triggers{d: d, wake: make(chan struct{}, 1), logs: map[string]*followed{}}
}

// restore takes up what an agent before has not carried out.
func (t *triggers) restore(ctx context.Context) error {
	left, err := t.d.ledger.Triggers(ctx, time.Now().Add(time.Hour))
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, one := range left {
		if one.Ended.IsZero() {
			t.open = append(t.open, &asked{Trigger: one, due: one.To})
		}
	}
	return nil
}

// Trigger records that a window is to be released, and returns at once.
func (d *Daemon) Trigger(ctx context.Context, ask control.TriggerRequest) (control.Trigger, error) {
	t, err := d.triggers.ask(ctx, ask)
	if err != nil {
		d.log.Warn().Str("class", "trigger").Str("by", quote.Text(ask.By)).Err(err).Msg("a trigger was refused")
		return control.Trigger{}, err
	}
	d.log.Info().Int64("trigger", t.ID).Time("from", t.From).Time("to", t.To).Str("by", quote.Text(t.By)).Str("reason", quote.Text(t.Reason)).Msg("triggered")
	d.keeper.pokeAudit()
	return control.NewTrigger(t), nil
}

// signalled is Trigger for a signal.
func (t *triggers) signalled(ctx context.Context, s os.Signal) {
	_, _ = t.d.Trigger(ctx, control.TriggerRequest{By: "signal: " + s.String()}) // it is logged
}

func (t *triggers) ask(ctx context.Context, ask control.TriggerRequest) (ledger.Trigger, error) {
	t.asking.Lock()
	defer t.asking.Unlock()
	cfg := t.d.current().config
	now := time.Now().UTC()
	one, err := t.check(&cfg, ask, now)
	if err != nil {
		return one, err
	}
	if err := t.limit(ctx, cfg.Policy.MaxPerHour, now); err != nil {
		return one, err
	}
	// Nothing that it needs is deleted from here on.
	held := &asked{Trigger: one, due: one.To}
	t.mu.Lock()
	t.open = append(t.open, held)
	t.mu.Unlock()
	one, err = t.d.ledger.AddTrigger(ctx, one)
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		t.open = slices.DeleteFunc(t.open, func(a *asked) bool { return a == held })
		return one, err
	}
	held.Trigger = one
	poke(t.wake)
	return one, nil
}

// check makes a trigger of what somebody asks for.
func (t *triggers) check(cfg *service.Config, ask control.TriggerRequest, now time.Time) (ledger.Trigger, error) {
	bad := func(text, hint string) (ledger.Trigger, error) {
		return ledger.Trigger{}, &control.Error{Status: http.StatusUnprocessableEntity, Text: text, Hint: hint}
	}
	if !cfg.Policy.Keeps() {
		return bad(fmt.Sprintf("policy.upload is %q: nothing is held that could be released", cfg.Policy.Upload),
			`set policy.upload = "triggered" and run: capagent reload`)
	}
	before, after := cfg.Policy.Before.Std(), cfg.Policy.After.Std()
	if ask.Before != nil {
		before = ask.Before.Std()
	}
	if ask.After != nil {
		after = ask.After.Std()
	}
	if err := service.CheckWindow(before, after); err != nil {
		return bad(err.Error(), "")
	}
	if len(ask.Reason) > service.MaxReason || !utf8.ValidString(ask.Reason) {
		return bad(fmt.Sprintf("reason: expected text of %d bytes at most", service.MaxReason), "")
	}
	one := ledger.Trigger{Asked: now, From: now.Add(-before), To: now.Add(after), By: ask.By, Reason: ask.Reason}
	if one.By == "" {
		one.By = "control API"
	}
	if ask.Capture != "" {
		one.Source = service.CapturePrefix + ask.Capture
		if !slices.ContainsFunc(cfg.Capture, func(c service.CaptureConfig) bool { return c.Source() == one.Source }) {
			return one, &control.Error{Status: http.StatusNotFound, Text: "no live capture has the name " + quote.Path(ask.Capture), Hint: "`capagent status` lists them"}
		}
	}
	return one, nil
}

// limit refuses a trigger that is one too many for the hour.
func (t *triggers) limit(ctx context.Context, most int, now time.Time) error {
	all, err := t.d.ledger.Triggers(ctx, now.Add(-time.Hour))
	if err != nil {
		return err
	}
	waiting := 0
	var hour []time.Time
	for _, one := range all {
		if one.Ended.IsZero() {
			waiting++
		}
		// One of the future was recorded by a clock that went wrong.
		if one.Asked.After(now.Add(-time.Hour)) && one.Asked.Before(now.Add(time.Minute)) {
			hour = append(hour, one.Asked)
		}
	}
	if waiting >= mostTriggers {
		return &control.Error{Status: http.StatusTooManyRequests, Text: fmt.Sprintf("%d triggers are still to be carried out", waiting), RetryAfter: time.Minute}
	}
	if most == 0 || len(hour) < most {
		return nil
	}
	slices.SortFunc(hour, time.Time.Compare)
	next := hour[len(hour)-most].Add(time.Hour)
	return &control.Error{
		Status: http.StatusTooManyRequests, RetryAfter: next.Sub(now),
		Text: fmt.Sprintf("%d triggers within an hour: the next one is possible at %s", most, next.Format(time.RFC3339)),
		Hint: "policy.max_per_hour sets the limit; what is held stays until retention takes it",
	}
}

// needs says that the file of a capture must not be deleted yet.
func (t *triggers) needs(c ledger.Capture) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.ContainsFunc(t.open, func(a *asked) bool {
		return !c.Last.Before(a.From) && !c.First.After(a.To) && (a.Source == "" || a.Source == c.Source)
	})
}

// owns says that a file of the spool is what a trigger was making.
func (t *triggers) owns(name string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.ContainsFunc(t.open, func(a *asked) bool { return nameOf(a.Trigger) == strings.TrimSuffix(name, ".part") })
}

// run carries triggers out, one after the other, until ctx is done.
func (t *triggers) run(ctx context.Context) {
	lowPriority()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		next, wait := t.next()
		if next != nil {
			t.carryOut(ctx, next)
			continue
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
		case <-t.wake:
		case <-timer.C:
		}
	}
}

// next returns the trigger that is due first, or how long none is. A clock that
// was set back does not make it wait for longer than the longest window.
func (t *triggers) next() (*asked, time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	wait := time.Minute // the clock may be set
	var next *asked
	for _, a := range t.open {
		left := time.Until(a.due)
		switch {
		case a.ID == 0: // not recorded yet
		case left > 0 && left <= service.MaxAfter+time.Hour:
			wait = min(wait, left)
		case next == nil || a.due.Before(next.due):
			next = a
		}
	}
	return next, wait
}

// carryOut releases a window and records what came of it.
func (t *triggers) carryOut(ctx context.Context, a *asked) {
	d := t.d
	one := a.Trigger
	result, err := t.release(ctx, one)
	if ctx.Err() != nil {
		return // it is in the ledger
	}
	about := fmt.Sprint(one.ID)
	if err != nil && a.tries < triggerTries {
		d.problems.raise("trigger", about, fmt.Sprintf("trigger %d can't be carried out: %v", one.ID, err), "it is tried again; what it needs is kept")
		t.later(a)
		return
	}
	if err != nil {
		result.Error = err.Error()
	}
	if err := d.ledger.EndTrigger(ctx, one.ID, result); err != nil {
		d.troubled(err)
		t.later(a)
		return
	}
	d.problems.clear("trigger", about)
	t.mu.Lock()
	t.open = slices.DeleteFunc(t.open, func(other *asked) bool { return other == a })
	t.mu.Unlock()
	event := d.log.Info()
	if result.Error != "" {
		event = d.log.Error().Str("class", "trigger").Str("error", result.Error)
	}
	event.Int64("trigger", one.ID).Ints64("captures", result.Captures).Int("segments", len(result.Segments)).Str("note", result.Note).Msg("the window was released")
	d.current().sender.poke()
	d.keeper.pokeAudit()
}

func (t *triggers) later(a *asked) {
	t.mu.Lock()
	defer t.mu.Unlock()
	a.tries++
	a.due = time.Now().Add(triggerAgain)
}
