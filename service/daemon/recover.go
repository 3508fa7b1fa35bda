package daemon

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"capagent/internal/failure"
	"capagent/internal/quote"
	"capagent/rotate"
	"capagent/service"
)

// recoverSpool gives every file of the spool that the ledger does not know a row:
// a crash came between its seal and its record. Copies that were cut short are
// deleted; their originals are read again. What another process is writing
// (standard input) is left alone.
//
// entries are what was there before anything was made anew: a copy that is being
// written now must not be taken for one that was cut short.
func (d *Daemon) recoverSpool(ctx context.Context, g *generation, entries []fs.DirEntry) {
	dir := d.opts.Config.SpoolDir()
	for _, e := range entries {
		if ctx.Err() != nil {
			return
		}
		path := filepath.Join(dir, e.Name())
		part := strings.HasSuffix(e.Name(), ".part")
		switch {
		case !e.Type().IsRegular():
		case d.triggers.owns(e.Name()): // made anew
		case part && (strings.HasPrefix(e.Name(), "copy-") || triggeredName.MatchString(strings.TrimSuffix(e.Name(), ".part"))):
			_ = os.Remove(path) // tried again at the next start
		case !part:
			d.recoverFile(ctx, g, path)
		}
	}
}

func (d *Daemon) recoverFile(ctx context.Context, g *generation, path string) {
	known, err := d.ledger.HasPath(ctx, path)
	if err != nil {
		d.troubled(err)
	}
	if known || err != nil {
		return
	}
	opts := service.AddOptions{Source: "recovered", Owned: true}
	if source, ok := sourceOf(path); ok {
		opts.Policy, opts.Source, opts.Live = true, source, liveOf(rotate.Sealed{Reason: rotate.Recovered})
	}
	if triggeredName.MatchString(filepath.Base(path)) {
		opts.Source = service.SourceTrigger
	}
	c, err := g.agent.Add(ctx, path, opts)
	if err != nil && failure.As(err).Kind != failure.Permanent {
		d.troubled(err)
		return
	}
	d.log.Warn().Str("class", "recovered").Int64("capture", c.ID).Str("path", path).
		Msg("recorded " + quote.Path(filepath.Base(path)) + ", which a crash had left in the spool")
	g.sender.poke()
}
