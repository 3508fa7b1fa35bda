//go:build linux

package crash

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"capagent/internal/faulttest"
)

var (
	cutsFlag      = flag.Int("crash.cuts", 16, "power cuts in total")
	cutsRoundFlag = flag.Int("crash.cuts-round", 20, "power cuts between two verdicts")
)

// fileSystems are those whose power is cut. With commit=1000 ext4 writes nothing
// on its own account.
var fileSystems = []struct{ kind, options string }{
	{"ext4", "commit=1000"}, {"xfs", ""}, {"ext4", "commit=5"}, {"ext4", "commit=1"},
}

// TestPowerCuts takes the power away from the disks below state and folders at
// random moments. What must hold behind each of them: a capture whose writer had
// synced it ends in exactly one session; what the agent said that it had taken
// from standard input too; nothing that was deleted is without a session; nothing
// that was done is sent again; the ledger is whole.
func TestPowerCuts(t *testing.T) {
	if err := faulttest.CanMount("ext4", "xfs"); err != nil {
		t.Skip(err)
	}
	bin := program(t)
	random := rand.New(rand.NewPCG(seed(t), 5))
	stats, errs := cutRounds(t.Context(), bin, random, *cutsFlag)
	report(t, errs)
	t.Log(stats)
	checkStarts(t, stats)
}

// cutRounds cuts so often, in rounds on every file system.
func cutRounds(ctx context.Context, bin string, random *rand.Rand, cuts int) (*killStats, []error) {
	stats := &killStats{began: time.Now()}
	rounds := shares(cuts, min(*cutsRoundFlag, max(1, cuts/len(fileSystems))))
	seeds := seedsOf(random, len(rounds))
	return stats, each(len(rounds), func(i int) error {
		dir, remove, err := memory()
		if err != nil {
			return err
		}
		defer remove()
		fs, after := fileSystems[i%len(fileSystems)], afterOf(*afterFlag, i+i/4)
		r := &cutRound{
			round: round{bin: bin, after: after, stats: stats, random: rand.New(rand.NewPCG(seeds[i], 6))},
			split: i/len(fileSystems)%2 == 0,
		}
		if err := r.run(ctx, dir, fs.kind, fs.options, seeds[i], rounds[i]); err != nil {
			return fmt.Errorf("round %d (%s %s, after = %q, split %v, seed %d): %w", i, fs.kind, fs.options, after, r.split, seeds[i], err)
		}
		return nil
	})
}

// cutRound is a round on disks of its own. Split, state, spool and folder have
// one each: on a shared one, a sync of the ledger syncs the others along.
type cutRound struct {
	round
	split bool
	disks faulttest.Disks
}

func (r *cutRound) run(ctx context.Context, dir, kind, options string, seed uint64, cuts int) (err error) {
	if r.sandbox, err = faulttest.StartSandbox(ctx, r.bin, filepath.Join(dir, "sandbox"), r.faults()...); err != nil {
		return err
	}
	defer func() { r.sandbox.Stop() }()
	defer func() {
		if closing := r.disks.Close(); err == nil {
			err = closing
		}
	}()
	if err := r.prepare(dir, kind, options, seed); err != nil {
		return err
	}
	for n := range cuts {
		if n%7 == 6 {
			if err := r.sandbox.Restart(ctx, r.faults()...); err != nil {
				return err
			}
		}
		if err := r.cut(ctx, n == 0); err != nil {
			return fmt.Errorf("cut %d: %w", n+1, err)
		}
	}
	return r.finish(ctx)
}

// prepare makes disks and configuration.
func (r *cutRound) prepare(dir, kind, options string, seed uint64) error {
	add := func(name, mount string) error {
		d, err := faulttest.NewDisk(filepath.Join(dir, name+".img"), mount, kind, options)
		if err == nil {
			r.disks = append(r.disks, d)
		}
		return err
	}
	main, folder := filepath.Join(dir, "main"), filepath.Join(dir, "main")
	if err := add("main", main); err != nil {
		return err
	}
	state := filepath.Join(main, "state")
	if r.split {
		folder = filepath.Join(dir, "folder")
		if err := add("folder", folder); err != nil {
			return err
		}
		if err := add("spool", filepath.Join(state, "spool")); err != nil {
			return err
		}
	}
	w := watchFor(r.after, filepath.Join(folder, "watch"), filepath.Join(folder, "sent"))
	outside := filepath.Join(folder, "outside")
	if err := os.MkdirAll(outside, 0o700); err != nil {
		return err
	}
	r.agent = &faulttest.Agent{Program: r.bin, Dir: filepath.Join(dir, "agent"), StateDir: state, Watches: []faulttest.Watch{w}, Settle: 50 * time.Millisecond}
	if err := r.agent.Configure(r.sandbox.URL, r.sandbox.TokenFile); err != nil {
		return err
	}
	r.feeder = faulttest.NewFeeder(w, outside, seed)
	r.feeder.Sync = true
	return command("sync", "-f", main, folder) // what is there before the first start
}

func command(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, out)
	}
	return nil
}

// synced are the ways to drop a capture that end with everything on the disk.
var synced = []string{faulttest.Closed, faulttest.Closed, faulttest.Renamed, faulttest.MovedIn, faulttest.Nested, faulttest.Zipped, faulttest.Big, faulttest.Twin}

// cut is one life that ends with the power.
func (r *cutRound) cut(ctx context.Context, first bool) error {
	if r.random.IntN(3) == 0 {
		r.dropSynced(1 + r.random.IntN(4))
	}
	p, err := r.agent.Run(ctx)
	if err != nil {
		return err
	}
	var up *upload
	if first || r.random.IntN(5) == 0 { // while it starts
		r.sleep(60 * time.Millisecond)
	} else {
		if err := p.WaitReady(10 * time.Second); err != nil {
			p.Kill()
			return err
		}
		r.stats.started(p)
		if r.random.IntN(3) == 0 {
			if up, err = r.upload(ctx); err != nil {
				p.Kill()
				return err
			}
		}
		r.dropSynced(r.random.IntN(5))
		r.sleep(200 * time.Millisecond)
	}
	err = r.powerOff(p, up)
	r.stats.kill()
	if p.Crash() != "" || p.ExitCode() >= 0 {
		return fmt.Errorf("it ended by itself: %s", p.Ending())
	}
	if err != nil {
		return err
	}
	return r.checkRecorded(ctx)
}

func (r *cutRound) dropSynced(n int) {
	for range n {
		if how := synced[r.random.IntN(len(synced))]; r.random.IntN(5) == 0 && how != faulttest.Twin {
			r.feeder.DropLoose(how)
		} else {
			r.feeder.Drop(how)
		}
		if r.random.IntN(3) == 0 {
			r.sleep(15 * time.Millisecond)
		}
	}
}

// powerOff stops everybody who could be lied to, then cuts.
func (r *cutRound) powerOff(p *faulttest.Process, up *upload) error {
	processes := []*faulttest.Process{p}
	if up != nil {
		processes = append(processes, up.process)
	}
	for _, one := range processes {
		if err := one.Freeze(5 * time.Second); err != nil && one == p {
			p.Kill()
			return err
		}
	}
	if up != nil && !up.acknowledged() {
		r.feeder.Unsure(up.capture)
	}
	err := r.disks.Cut()
	for _, one := range processes {
		one.Kill()
	}
	if err != nil {
		return err
	}
	return r.disks.Restore()
}

// checkRecorded wants a file, with the right content, for every capture that the
// ledger has and that is not sent yet, whether its writer had synced it or not.
// (A file that was moved, and was back after a cut, is met twice: its second
// record may wait for the session of the first while the file is moved again.)
func (r *cutRound) checkRecorded(ctx context.Context) error {
	copied, err := r.copyLedger() // who opens it changes it
	if copied == "" || err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "sqlite3", "-separator", "\t", copied,
		"SELECT path, sha256 FROM captures WHERE state IN ('sealed', 'held', 'queued')").CombinedOutput()
	if err != nil && !strings.Contains(string(out), "no such table") {
		return fmt.Errorf("look at the ledger: %w\n%s", err, out)
	}
	sent, err := r.sent()
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(out)) {
		path, sum, ok := strings.Cut(strings.TrimSpace(line), "\t")
		if !ok || sent[sum] {
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("the ledger has a capture that the disk has not: %w", err)
		}
		if faulttest.Sum(data) != sum {
			return fmt.Errorf("%s is not what the ledger says", path)
		}
	}
	return nil
}

// sent returns the files whose content is in a session.
func (r *cutRound) sent() (map[string]bool, error) {
	sessions, err := r.sandbox.Sessions()
	if err != nil {
		return nil, err
	}
	payloads, files := map[string]bool{}, map[string]bool{}
	for _, s := range sessions {
		payloads[s.SHA256] = true
	}
	for _, d := range r.feeder.Dropped() {
		files[d.File] = payloads[d.Payload]
	}
	return files, nil
}

// copyLedger copies the database with its log, or returns "" when there is none.
func (r *cutRound) copyLedger() (string, error) {
	to := filepath.Join(r.agent.Dir, "ledger-as-found.db")
	for _, suffix := range []string{"", "-wal"} {
		data, err := os.ReadFile(r.agent.Ledger() + suffix)
		switch {
		case errors.Is(err, fs.ErrNotExist) && suffix == "":
			return "", nil
		case errors.Is(err, fs.ErrNotExist):
			err = os.Remove(to + suffix)
			if err == nil || errors.Is(err, fs.ErrNotExist) {
				continue
			}
			return "", err
		case err != nil:
			return "", err
		}
		if err := os.WriteFile(to+suffix, data, 0o600); err != nil {
			return "", err
		}
	}
	return to, os.RemoveAll(to + "-shm")
}
