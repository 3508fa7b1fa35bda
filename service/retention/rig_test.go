package retention

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"
	"time"

	"capagent/internal/ledger"
)

const dest = "https://cloudshark.example"

// day0 is when the tests' captures are registered unless they say otherwise.
var day0 = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

const day = 24 * time.Hour

// rig is a ledger with a clock, and a folder.
type rig struct {
	*ledger.Ledger
	t   *testing.T
	now time.Time
	dir string
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, now: day0, dir: t.TempDir()}
	l, err := ledger.Open(t.Context(), filepath.Join(memoryDir(t), "ledger.db"), ledger.Options{Now: func() time.Time { return r.now }})
	r.ok(err)
	t.Cleanup(func() { r.ok(l.Close()) })
	r.Ledger = l
	return r
}

// memoryDir is a folder in memory, where there is one: what a disk does with the
// ledger is not the matter here.
func memoryDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "retention")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func (r *rig) ok(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// path is below the rig's folder, whose parents are made.
func (r *rig) path(name string) string {
	path := filepath.Join(r.dir, filepath.FromSlash(name))
	r.ok(os.MkdirAll(filepath.Dir(path), 0o700))
	return path
}

func sum(content string) string {
	h := sha256.Sum256([]byte(content))
	return hex.EncodeToString(h[:])
}

// empty is the state of a capture that holds no packet.
const empty ledger.State = "empty"

// add writes a file and registers it as a capture of the agent's own in a state.
func (r *rig) add(name, content string, state ledger.State, more ...func(*ledger.Found)) ledger.Capture {
	r.t.Helper()
	path := r.path(name)
	r.ok(os.WriteFile(path, []byte(content), 0o640))
	return r.register(path, content, state, more...)
}

// register registers a file as a capture of the agent's own in a state.
func (r *rig) register(path, content string, state ledger.State, more ...func(*ledger.Found)) ledger.Capture {
	r.t.Helper()
	ctx := context.Background()
	f := ledger.Found{
		Source: "capture:test", Path: path, Name: filepath.Base(path), Destination: dest, Owned: true, State: ledger.Queued,
		Inspection: ledger.Inspection{Format: "pcap", Size: int64(len(content)), SHA256: sum(content), Packets: 1, First: r.now, Last: r.now},
	}
	switch state {
	case ledger.Held, ledger.Quarantined, ledger.Sealed:
		f.State = state
	case empty:
		f.State, f.Packets, f.First, f.Last = ledger.Done, 0, time.Time{}, time.Time{}
	}
	for _, edit := range more {
		edit(&f)
	}
	all, err := r.Register(ctx, []ledger.Found{f})
	r.ok(err)
	c := all[0].Capture
	switch state {
	case ledger.Done, ledger.Failed:
		begun, err := r.Begin(ctx, c.ID, "cloudshark")
		r.ok(err)
		switch {
		case state == ledger.Failed:
			r.ok(r.Fail(ctx, c.ID, "cloudshark", ledger.StepFailure{Text: "refused", Permanent: true}))
		case begun.Outcome == ledger.Duplicate:
			r.ok(r.Finish(ctx, c.ID, "cloudshark", ledger.Result{Skipped: true, DuplicateOf: begun.Other, SessionID: "0123456789ab"}, ledger.Done))
		default:
			r.ok(r.Finish(ctx, c.ID, "cloudshark", ledger.Result{SessionID: "0123456789ab"}, ledger.Done))
		}
	}
	return r.get(c.ID)
}

func (r *rig) get(id int64) ledger.Capture {
	r.t.Helper()
	c, err := r.Get(context.Background(), id)
	r.ok(err)
	return c
}

// state fails the test unless a capture is in that state.
func (r *rig) state(c ledger.Capture, want ledger.State) {
	r.t.Helper()
	if got := r.get(c.ID); got.State != want {
		r.t.Errorf("capture %s is %s (%s); want %s", c.Name, got.State, got.Reason, want)
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// files returns the content of every file below a folder by its path.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content := []byte("not a file")
		if d.Type().IsRegular() {
			content, err = os.ReadFile(path)
		}
		rel, _ := filepath.Rel(dir, path)
		all[filepath.ToSlash(rel)] = string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
