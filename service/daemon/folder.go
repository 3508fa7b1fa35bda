package daemon

import (
	"context"

	"github.com/rs/zerolog"

	"capagent/capture/watch"
	"capagent/internal/ledger"
	"capagent/internal/quote"
)

// folder is one watched folder.
type folder struct {
	config  watch.Config
	watcher *watch.Watcher
}

func newFolder(cfg watch.Config, l *ledger.Ledger, in *intake, log zerolog.Logger, noEvents bool) *folder {
	f := &folder{config: cfg}
	f.watcher = watch.New(watch.Options{
		Config: cfg, NoEvents: noEvents,
		Log:   log.With().Str("folder", cfg.Path).Logger(),
		Known: func(ctx context.Context, path string) (watch.Stamp, error) { return f.known(ctx, l, path) },
		Take:  func(ctx context.Context, file watch.File) { in.take(ctx, f, file) },
		Refuse: func(path, reason string) {
			// Without a class: each of them is a cause of its own.
			log.Warn().Str("path", path).Msg("not taken, " + quote.Text(reason) + ": " + quote.Path(path))
		},
	})
	return f
}

// known says under which stamp a file needs no further look. Where something is
// left to do with it, such as deleting it after it was sent, it is not known.
func (f *folder) known(ctx context.Context, l *ledger.Ledger, path string) (watch.Stamp, error) {
	k, ok, err := l.Recall(ctx, path)
	if err != nil || !ok {
		return "", err
	}
	sent := k.State == ledger.Done && k.SessionID != "" || k.State == ledger.Purged
	if sent && f.config.After != watch.AfterKeep || k.State == ledger.Failed {
		return "", nil
	}
	return watch.Stamp(k.Stamp), nil
}
