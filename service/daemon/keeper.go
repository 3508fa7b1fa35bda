package daemon

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"capagent/capture/watch"
	"capagent/internal/audit"
	"capagent/internal/disk"
	"capagent/internal/ledger"
	"capagent/internal/quote"
	"capagent/internal/safefile"
	"capagent/service"
	"capagent/service/retention"
)

// How often the keeper looks after things that nothing calls it for.
const (
	keepEvery  = 30 * time.Second
	pruneEvery = 24 * time.Hour
	// How often sightings are pruned: a busy sensor makes a GB of them in a day.
	sightingsEvery = time.Hour
	auditDelay     = 200 * time.Millisecond // lines are written together
	clockJump      = 5 * time.Second
)

// The ballast is room on the state directory's disk that is given back when the
// disk is full, and taken again when so much besides is free.
const (
	ballastSize   = 8 << 20
	ballastLeaves = 64 << 20
)

// keeper looks after what lasts: the audit log, the disk, retention, files that
// are to be moved or deleted after they were sent, and the status.
type keeper struct {
	d         *Daemon
	audit     *audit.Log
	retention *retention.Keeper
	acts      *retention.After
	ballast   *disk.Ballast

	unclean   bool // the last agent crashed
	auditWake chan struct{}
	sweepWake chan struct{}
	telling   sync.Mutex
	told      string // the status text that was told last

	mu   sync.Mutex
	left map[int64]afterwards // after-actions that could not be done yet
}

func newKeeper(d *Daemon, unclean bool) *keeper {
	cfg := d.opts.Config
	return &keeper{
		d:         d,
		audit:     service.AuditLog(cfg, d.ledger, d.opts.Version, d.log),
		retention: &retention.Keeper{Ledger: d.ledger, SpoolDir: cfg.SpoolDir(), Log: d.log},
		acts: &retention.After{
			Ledger: d.ledger, Log: d.log,
			Stamp: func(info fs.FileInfo) string { return string(watch.StampOf(info)) },
		},
		ballast: disk.NewBallast(filepath.Join(cfg.StateDir(), "ballast"), ballastSize),
		unclean: unclean, auditWake: make(chan struct{}, 1), sweepWake: make(chan struct{}, 1),
		left: map[int64]afterwards{},
	}
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (k *keeper) pokeAudit() { poke(k.auditWake) }

// run keeps until ctx is done; then the audit log is brought up to date.
func (k *keeper) run(ctx context.Context) {
	var own sync.WaitGroup
	own.Go(func() { k.keepAudit(ctx) })
	own.Go(func() { k.keepSightings(ctx) })
	k.restoreBallast()
	if k.unclean {
		own.Go(func() { k.checkLedger(ctx) })
		own.Go(func() { k.recover(ctx) })
	}
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	wall, pruned := time.Now(), time.Now()
	for {
		k.sweep(ctx)
		select {
		case <-ctx.Done():
			own.Wait()
			return
		case <-k.sweepWake:
		case now := <-tick.C:
			k.watchClock(&wall, now)
			k.d.tryLedger()
			k.watchFolders()
			k.restoreBallast()
			k.finishAfter(ctx)
			if now.Sub(pruned) > pruneEvery {
				pruned = now
				k.prune(ctx)
			}
		}
		k.tell()
	}
}

// keepAudit moves events into the audit log soon after they happen, and the last
// ones when ctx is done.
func (k *keeper) keepAudit(ctx context.Context) {
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	for {
		k.drainAudit(ctx)
		select {
		case <-ctx.Done():
			k.drainAudit(context.WithoutCancel(ctx))
			return
		case <-k.auditWake:
			timer := time.NewTimer(auditDelay)
			select {
			case <-timer.C:
			case <-ctx.Done():
			}
			timer.Stop()
		case <-tick.C:
		}
	}
}

// keepSightings prunes sightings now and then, besides everything else: it can
// take a while.
func (k *keeper) keepSightings(ctx context.Context) {
	tick := time.NewTicker(sightingsEvery)
	defer tick.Stop()
	for {
		k.pruneSightings(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (k *keeper) pruneSightings(ctx context.Context) {
	cfg := k.d.current().config.Retention
	keep := ledger.Keep{MaxSize: cfg.SightingsSize.Bytes()}
	if age := cfg.Sightings.Std(); age > 0 {
		keep.Since = time.Now().Add(-age)
	}
	done, err := k.d.ledger.PruneSightings(ctx, keep)
	if done.Captures > 0 {
		k.d.log.Info().Int64("captures", done.Captures).Int64("bytes_left", done.Size).Msg("the sightings of old captures are forgotten")
	}
	switch {
	case err == nil:
		k.d.problems.clear("sightings", "")
	case ctx.Err() == nil:
		k.d.problems.raise("sightings", "", err.Error(), "")
		k.makeRoom(ledger.Trouble(err))
	}
}

func (k *keeper) drainAudit(ctx context.Context) {
	switch err := k.audit.Drain(ctx); {
	case err == nil:
		k.d.problems.clear("audit", "")
	case ctx.Err() == nil:
		k.d.problems.raise("audit", "", err.Error(), "its lines are kept in the ledger until it can be written")
		k.makeRoom(ledger.Trouble(err))
	}
}

// checkLedger reads the whole ledger once, in the background: after a clean end
// there is no reason to expect damage, and a large ledger takes its time.
func (k *keeper) checkLedger(ctx context.Context) {
	if err := k.d.ledger.Check(ctx); err != nil && ctx.Err() == nil {
		k.d.troubled(err)
	}
}

// sweep deletes what retention lets go.
func (k *keeper) sweep(ctx context.Context) {
	cfg := k.d.current().config
	k.retention.Config, k.retention.Ring, k.retention.Needed = cfg.Retention, cfg.Policy.Keeps(), k.d.triggers.needs
	report, err := k.retention.Sweep(ctx)
	if ctx.Err() != nil {
		return
	}
	if report.Purged > 0 {
		k.pokeAudit()
	}
	if err != nil {
		k.d.problems.raise("retention", "", err.Error(), "")
		k.makeRoom(ledger.Trouble(err))
		return
	}
	k.d.problems.clear("retention", "")
	// A disk that others fill is told when it is full: retention has no part in it.
	if report.Over() && report.Owned.Captures > 0 {
		k.d.problems.raise("spool_full", "", report.Problem, "see [retention]; what is not sent is never deleted")
	} else {
		k.d.problems.clear("spool_full", "")
	}
}

// recover ends deletions that a crash cut short.
func (k *keeper) recover(ctx context.Context) {
	if _, err := k.retention.Recover(ctx); err != nil && ctx.Err() == nil {
		k.d.problems.raise("retention", "", "files of deleted captures are still there: "+err.Error(), "")
	}
}

// makeRoom gives the ballast back when the disk is full, so that the ledger can
// go on.
func (k *keeper) makeRoom(trouble string) {
	if trouble != "disk_full" {
		return
	}
	if released, err := k.ballast.Release(); err != nil {
		k.d.log.Warn().Err(err).Msg("the ballast can't be given back")
	} else if released {
		k.d.log.Info().Int("bytes", ballastSize).Msg("the disk is full: the ballast is given back, so that the ledger can go on")
	}
	poke(k.sweepWake)
}

func (k *keeper) restoreBallast() {
	if _, err := k.ballast.Restore(ballastLeaves); err != nil {
		k.d.log.Debug().Err(err).Msg("no room for the ballast")
	}
}

// watchClock notes when the wall clock and the time that passed disagree.
func (k *keeper) watchClock(last *time.Time, now time.Time) {
	passed := now.Sub(*last)
	jump := now.Round(0).Sub(last.Round(0)) - passed
	*last = now
	if jump.Abs() < clockJump {
		return
	}
	k.d.log.Warn().Str("class", "clock").Dur("jump", jump).Msg("the clock jumped")
	k.d.note("clock_jump", map[string]any{"by": jump.String()})
}

// watchFolders notes folders that went away and came back.
func (k *keeper) watchFolders() {
	for _, f := range k.d.current().folders {
		s := f.watcher.Status()
		switch s.State {
		case watch.Unavailable:
			if k.d.problems.raise("folder_unavailable", f.config.Path, "the folder "+quote.Path(f.config.Path)+" can't be read: "+s.Error,
				"it is taken up as soon as it is there") {
				k.d.note("gap", map[string]any{"folder": f.config.Path, "error": s.Error})
			}
		default:
			if was := k.d.problems.clear("folder_unavailable", f.config.Path); was != nil {
				k.d.note("gap_end", map[string]any{"folder": f.config.Path, "since": was.Since})
			}
		}
	}
}

// prune forgets files that are gone, so that the memory of them does not grow
// for ever.
func (k *keeper) prune(ctx context.Context) {
	const page = 500
	for after := ""; ; {
		files, err := k.d.ledger.Files(ctx, after, page)
		if err != nil || len(files) == 0 {
			return
		}
		after = files[len(files)-1].Path
		var gone []string
		for _, f := range files {
			// Where the folder itself is away, its files may come back.
			if _, err := os.Lstat(f.Path); errors.Is(err, fs.ErrNotExist) && there(filepath.Dir(f.Path)) {
				gone = append(gone, f.Path)
			}
		}
		if err := k.d.ledger.Forget(ctx, gone...); err != nil {
			k.d.log.Debug().Err(safefile.Cause(err)).Msg("the memory of files was not pruned")
			return
		}
	}
}

func there(dir string) bool {
	_, err := os.Stat(dir)
	return err == nil
}

// tell says what the agent does, if that has changed.
func (k *keeper) tell() {
	if k.d.opts.Told == nil {
		return
	}
	k.telling.Lock()
	defer k.telling.Unlock()
	if text := k.d.text(); text != k.told {
		k.told = text
		k.d.opts.Told(text)
	}
}
