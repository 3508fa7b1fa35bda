package daemon

import (
	"context"
	"fmt"
	"time"

	"capagent/internal/ledger"
	"capagent/service"
)

// text says in one line what the agent does, for people.
func (d *Daemon) text() string {
	g := d.current()
	flying := len(g.sender.inFlight())
	d.mu.Lock()
	draining := d.draining
	d.mu.Unlock()
	if draining {
		return fmt.Sprintf("stopping, %d uploading", flying)
	}
	work := d.workText(flying)
	if s, _ := g.door.Status(); s.State == service.DoorPaused && s.Cause != nil {
		return fmt.Sprintf("uploads are paused: %s; asking again at %s; %s", s.Cause.Error(), s.Until.UTC().Format(time.TimeOnly+"Z"), work)
	}
	if all := d.problems.list(); len(all) > 0 {
		text := all[0].Text
		if len(all) > 1 {
			text += fmt.Sprintf(" (and %d more)", len(all)-1)
		}
		return text + "; " + work
	}
	return work
}

func (d *Daemon) workText(flying int) string {
	counts, err := d.ledger.Counts(context.WithoutCancel(d.parent))
	if err != nil {
		return fmt.Sprintf("%d uploading", flying)
	}
	queued := counts.States[ledger.Queued].Captures
	text := fmt.Sprintf("%d uploading, %d queued, %d done", flying, max(0, queued-int64(flying)), counts.States[ledger.Done].Captures+counts.States[ledger.Purged].Captures)
	if n := counts.States[ledger.Failed].Captures; n > 0 {
		text += fmt.Sprintf(", %d failed", n)
	}
	if n := counts.States[ledger.Quarantined].Captures; n > 0 {
		text += fmt.Sprintf(", %d quarantined", n)
	}
	all, running := d.captures.list(), 0
	for _, l := range all {
		if l.capturing() {
			running++
		}
	}
	if len(all) > 0 {
		text = fmt.Sprintf("%d capturing, %s", running, text)
	}
	return text
}
