package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"capagent/internal/audit"
	"capagent/internal/ledger"
	"capagent/internal/quote"
)

// oldQueue is how long a capture may wait before that is worth a word.
const oldQueue = time.Hour

// ledger looks at what lies in the state directory: the ledger, the audit log, and what
// waits there. All three read the same file, one after the other.
func (x *examination) ledger(ctx context.Context) []Check {
	c, a, q := about("ledger", "ledger"), about("audit", "audit log"), about("queue", "queue")
	q.Names = true
	without := func(c Check) []Check {
		return []Check{c, a.skip("the ledger is not open"), q.skip("the ledger is not open")}
	}
	if x.Config.StateDir() == "" {
		return without(c.skip("it is not known where the state is"))
	}
	l, err := ledger.Open(ctx, x.Config.LedgerPath(), ledger.Options{ReadOnly: true, Log: x.Log})
	if errors.Is(err, fs.ErrNotExist) {
		return []Check{c.ok("none yet; it is made at the first start"), a.ok("none yet"), q.ok("empty")}
	}
	if err != nil {
		return without(x.unopened(c, err))
	}
	defer func() { _ = l.Close() }() // only read
	q = x.queue(ctx, q, l)
	// A large one takes longer than anybody waits for here.
	third := x.limit / 3
	c = checkLedger(ctx, c, l, third)
	return []Check{c, x.audit(ctx, a, l, third), q}
}

func (x *examination) unopened(c Check, err error) Check {
	switch {
	case errors.Is(err, ledger.ErrNewer):
		return c.fail(Failed, "install the newer capagent again", "%v", err)
	case errors.Is(err, ledger.ErrDamaged):
		return c.fail(Failed, "restart the agent: it sets the ledger aside and builds a new one from the spool", "%v", err)
	case ledger.Trouble(err) == "read_only" || errors.Is(err, fs.ErrPermission):
		return c.fail(Permission, "run it as the agent's user, or as root: "+asRoot("capagent doctor"), "%v", err)
	}
	return c.fail(Failed, "see whether the disk of "+quote.Path(x.Config.StateDir())+" works", "%v", err)
}

func checkLedger(ctx context.Context, c Check, l *ledger.Ledger, within time.Duration) Check {
	ctx, stop := context.WithTimeout(ctx, within)
	defer stop()
	err := l.Check(ctx)
	switch {
	case err == nil:
		return c.ok("%s is whole", quote.Path(l.Path()))
	case ctx.Err() != nil:
		return c.ok("%s opens; reading all of it takes longer than this does: capagent verify", quote.Path(l.Path()))
	case errors.Is(err, ledger.ErrDamaged):
		return c.fail(Failed, "restart the agent: it sets the ledger aside and builds a new one from the spool", "%v", err)
	}
	return c.fail(Failed, "see whether the disk of "+quote.Path(l.Path())+" works", "%v", err)
}

func (x *examination) audit(ctx context.Context, c Check, l *ledger.Ledger, within time.Duration) Check {
	ctx, stop := context.WithTimeout(ctx, within)
	defer stop()
	found, err := audit.Verify(ctx, x.Config.StateDir(), l)
	switch {
	case err != nil && ctx.Err() != nil:
		return c.ok("reading all of it takes longer than this does: capagent verify")
	case errors.Is(err, fs.ErrPermission):
		return c.fail(Permission, "run it as the agent's user, or as root: "+asRoot("capagent doctor"), "%v", err)
	case err != nil:
		return c.fail(Failed, "see whether the disk of "+quote.Path(x.Config.StateDir())+" works", "%v", err)
	case !found.OK():
		return c.fail(Failed, "keep a copy of the state directory and find out who changed it; `capagent verify` says more", "%v", found.Broken)
	}
	return c.ok("%d lines, whole", found.Lines)
}

// queue looks whether captures get through.
func (x *examination) queue(ctx context.Context, c Check, l *ledger.Ledger) Check {
	sum, err := l.Counts(ctx)
	if err != nil {
		return c.fail(Failed, "see whether the disk of the ledger works", "%v", err)
	}
	var bad, fixes []string
	trouble := func(fix, format string, args ...any) {
		bad = append(bad, fmt.Sprintf(format, args...))
		fixes = append(fixes, fix)
	}
	if n := sum.States[ledger.Failed].Captures; n > 0 {
		trouble("capagent ls --state failed says why; then: capagent retry --all", "%d failed", n)
	}
	if age := time.Since(sum.OldestQueued); !sum.OldestQueued.IsZero() && age > oldQueue {
		trouble("capagent status says what stands in the way; without an agent: capagent retry", "the oldest waits for %s", age.Round(time.Minute))
	}
	counts, err := l.DeliveryCounts(ctx, "cado")
	if n := counts[ledger.DeliveryFailed]; err == nil && n > 0 {
		trouble("capagent retry ID, for each that `capagent ls` shows as not delivered", "%d not delivered to Cado", n)
	}
	pauses, err := l.Pauses(ctx)
	for _, p := range pauses {
		if err == nil && p.Destination == x.Config.Destination() && (p.Until.IsZero() || p.Until.After(time.Now())) {
			trouble("capagent status says what to do about that", "%s takes nothing since %s: %s", p.Destination, p.Since.UTC().Format(time.RFC3339), p.Reason)
		}
	}
	waiting := sum.States[ledger.Queued].Captures
	if len(bad) == 0 {
		return c.ok("%d to be sent, %d held, %d done", waiting, sum.States[ledger.Held].Captures, sum.States[ledger.Done].Captures)
	}
	return c.warn(strings.Join(fixes, "\n"), "%d to be sent\n%s", waiting, strings.Join(bad, "\n"))
}
