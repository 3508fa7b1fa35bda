package daemon

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"capagent/capture/watch"
	"capagent/internal/confine"
	"capagent/internal/failure"
	"capagent/internal/ledger"
	"capagent/service/retention"
)

// afterwards is what is left to do with the file of a capture that was sent.
type afterwards struct {
	capture ledger.Capture
	path    string // where the watcher saw it
	folder  watch.Config
}

// after does with the file of a capture that was sent what its source wants. What
// can't be done now is tried again.
func (k *keeper) after(g *generation, f *folder, c ledger.Capture) {
	ctx := context.WithoutCancel(k.d.parent)
	switch {
	case c.State != ledger.Done && c.State != ledger.Purged || c.SessionID == "":
	case g.agent.Delivering(ctx, c.ID): // its file is needed; the courier comes again
	case c.Owned: // a copy of what is or was elsewhere
		if err := g.agent.Purge(ctx, c); err != nil {
			k.d.problems.raise("retention", "", "a copy that was sent can't be deleted: "+err.Error(), "")
		}
	case f != nil && f.config.After != watch.AfterKeep:
		a := afterwards{c, c.Path, f.config}
		if k.act(ctx, a) != nil {
			k.mu.Lock()
			k.left[c.ID] = a
			k.mu.Unlock()
		}
	}
}

func (k *keeper) act(ctx context.Context, a afterwards) error {
	known, _, err := k.d.ledger.Recall(ctx, a.path)
	if err == nil {
		rule := retention.Rule{Root: a.folder.Path, Action: a.folder.After, MoveTo: a.folder.MoveDir()}
		err = k.acts.Act(ctx, a.capture, rule, a.path, known.Stamp)
	}
	if err != nil {
		hint := failure.As(err).Hint
		if errors.Is(err, fs.ErrPermission) && k.d.uncovered(confine.Bounds{Mounts: []string{a.folder.Path}}) != "" {
			hint = "the agent confined itself at its start, when this was another folder or none; restart it"
		}
		k.d.problems.raise("after", a.folder.Path, "a file that was sent stays: "+err.Error(), hint)
		return err
	}
	k.pokeAudit()
	if _, err := os.Lstat(a.path); errors.Is(err, fs.ErrNotExist) {
		return k.d.ledger.Forget(ctx, a.path)
	}
	return nil
}

// finishAfter tries again what could not be done.
func (k *keeper) finishAfter(ctx context.Context) {
	k.mu.Lock()
	left := make([]afterwards, 0, len(k.left))
	for _, a := range k.left {
		left = append(left, a)
	}
	k.mu.Unlock()
	failing := map[string]bool{}
	for _, a := range left {
		if ctx.Err() != nil {
			return
		}
		if failing[a.folder.Path] {
			continue // one of a folder is enough to see that it still can't be
		}
		if k.act(ctx, a) != nil {
			failing[a.folder.Path] = true
			continue
		}
		k.mu.Lock()
		delete(k.left, a.capture.ID)
		k.mu.Unlock()
	}
	for _, f := range k.d.current().folders {
		if !failing[f.config.Path] {
			k.d.problems.clear("after", f.config.Path)
		}
	}
}
