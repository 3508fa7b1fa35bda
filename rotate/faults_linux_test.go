package rotate_test

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"capagent/internal/faulttest"
	"capagent/rotate"
	"capagent/rotate/pcapfile"
)

// account checks that each of the packets numbered up to total, whose times are
// their numbers, is in a file once or in a gap that was told, and that the counts
// are right.
func account(t *testing.T, r *rig, total int) (kept int) {
	t.Helper()
	seen := make([]bool, total)
	var gaps []rotate.Gap
	for _, s := range r.sealed {
		gaps = append(gaps, s.Gaps...)
		if s.Path == "" {
			continue
		}
		info, err := os.Stat(s.Path)
		if err != nil || info.Size() != s.Size {
			t.Errorf("%+v: %v", s, err)
		}
		all := read(t, s.Path)
		if len(all) != int(s.Packets) || all[0].Time != s.First.UnixNano() || all[len(all)-1].Time != s.Last.UnixNano() {
			t.Errorf("%d packets, %d to %d: %+v", len(all), all[0].Time, all[len(all)-1].Time, s)
		}
		for _, p := range all {
			n := int(binary.BigEndian.Uint64(p.Data))
			if seen[n] {
				t.Fatalf("packet %d comes twice", n)
			}
			seen[n] = true
			kept++
		}
	}
	lost := 0
	for _, g := range gaps {
		lost += int(g.Packets)
		if !strings.Contains(g.Cause, "no space left on device") && !strings.Contains(g.Cause, "input/output error") && !strings.Contains(g.Cause, "permission") && !strings.Contains(g.Cause, "read-only") {
			t.Errorf("%s", g)
		}
	}
	for n, here := range seen {
		if !here && !slices.ContainsFunc(gaps, func(g rotate.Gap) bool { return g.From.UnixNano() <= int64(n) && int64(n) <= g.To.UnixNano() }) {
			t.Fatalf("packet %d is missing, in none of the gaps %v", n, gaps)
		}
	}
	if n := r.Totals(); kept+lost != total || n.Lost != uint64(lost) || n.Packets != uint64(kept) {
		t.Errorf("%d packets kept, %d lost of %d: %+v", kept, lost, total, n)
	}
	return kept
}

// until writes batches until an error or most packets, and returns the number of
// the next one.
func until(r *rig, next, most int) (int, error) {
	for end := next + most; next < end; {
		err := r.Write(numbered(500, int64(next), 0, 1))
		next += 500
		if err != nil {
			return next, err
		}
	}
	return next, nil
}

func TestAFullDiskStopsAndGoesOn(t *testing.T) {
	if err := faulttest.CanMount(); err != nil {
		t.Skip(err)
	}
	for name, o := range map[string]pcapfile.Options{"small": {BufferSize: 64 << 10}, "large": {}} {
		for _, format := range []string{"pcap", "pcapng"} {
			t.Run(name+"/"+format, func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "disk")
				unmount, err := faulttest.Tmpfs(dir, "size=3m")
				if err != nil {
					t.Fatal(err)
				}
				defer unmount()
				ballast := filepath.Join(dir, "ballast")
				if err := os.WriteFile(ballast, make([]byte, 2<<20), 0o600); err != nil {
					t.Fatal(err)
				}
				r := newRig(t, rotate.Config{Packets: 3000, Format: format}, newLine(ether), rotate.Options{Dir: dir, Writer: o})
				next, err := until(r, 0, 1_000_000)
				if !errors.Is(err, syscall.ENOSPC) || !errors.Is(r.Stopped(), syscall.ENOSPC) || !strings.Contains(err.Error(), dir) {
					t.Fatal(err)
				}
				for range 10 { // all of this is lost
					if next, err = until(r, next, 500); !errors.Is(err, syscall.ENOSPC) {
						t.Fatal(err)
					}
				}
				<-r.Rotate2() // nothing is on its way
				r.Resume()    // too early: it stops again
				next, _ = until(r, next, 200_000)
				if r.Stopped() == nil {
					t.Fatal("it found room on a full disk")
				}
				<-r.Rotate2()
				if err := os.Remove(ballast); err != nil {
					t.Fatal(err)
				}
				r.Resume()
				if next, err = until(r, next, 5000); err != nil {
					t.Fatal(err)
				}
				if err := r.Close(); err != nil {
					t.Fatal(err)
				}
				failed := 0
				for _, s := range r.sealed {
					if s.Err != nil {
						failed++
						if !errors.Is(s.Err, syscall.ENOSPC) || s.Path != "" && s.Reason != rotate.Failed && s.Reason != rotate.Packets {
							t.Errorf("%+v", s)
						}
					}
				}
				if kept := account(t, r, next); failed == 0 || kept < 8000 {
					t.Errorf("%d files failed, %d packets kept", failed, kept)
				}
				left, _ := filepath.Glob(filepath.Join(dir, "*"+rotate.Part))
				if len(left) > 0 {
					t.Errorf("left are %q", left)
				}
			})
		}
	}
}

// Rotate2 is Rotate with the next Write at once.
func (r *rig) Rotate2() <-chan struct{} {
	c := r.Rotate()
	_ = r.Write(nil)
	return c
}

func TestAFailingDisk(t *testing.T) {
	if err := faulttest.CanMount(); err != nil {
		t.Skip(err)
	}
	bad, err := faulttest.NewBadFS(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer bad.Close()
	dir := filepath.Join(bad.Mount, "spool")
	r := newRig(t, rotate.Config{Packets: 3000}, newLine(ether), rotate.Options{Dir: dir, Writer: pcapfile.Options{BufferSize: 64 << 10}})
	next, err := until(r, 0, 4000)
	if err != nil {
		t.Fatal(err)
	}
	bad.FailWrites(syscall.EIO)
	if next, err = until(r, next, 1_000_000); !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	bad.FailWrites(0)
	r.Resume()
	if next, err = until(r, next, 4000); err != nil {
		t.Fatal(err)
	}
	<-r.Rotate2()
	before := len(r.sealed)
	bad.FailFsyncs(syscall.EIO)
	if next, err = until(r, next, 3000); err != nil {
		t.Fatal(err)
	}
	<-r.Rotate2()
	bad.FailFsyncs(0)
	if s := r.sealed[before]; !errors.Is(s.Err, syscall.EIO) || s.Packets != 3000 {
		t.Errorf("nobody knows that it may not be on the disk: %+v", s)
	}
	before = len(r.sealed)
	bad.FailWrites(syscall.EIO) // of this file nothing is left, and the next one tells
	r.Miss(rotate.Gap{From: time.Unix(0, 1), To: time.Unix(0, 2), Cause: "input/output error"})
	if next, err = until(r, next, 500); err != nil {
		t.Fatal(err)
	}
	<-r.Rotate2()
	bad.FailWrites(0)
	if s := r.sealed[before]; !errors.Is(s.Err, syscall.EIO) || s.Path != "" {
		t.Errorf("%+v", s)
	}
	if next, err = until(r, next, 500); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	account(t, r, next)
	if s := r.sealed[len(r.sealed)-1]; len(s.Gaps) != 2 || s.Gaps[1].Packets != 500 {
		t.Errorf("%+v", s)
	}
}

func TestADirectoryThatCantBeWritten(t *testing.T) {
	if err := faulttest.CanMount(); err != nil {
		t.Skip(err)
	}
	dir := filepath.Join(t.TempDir(), "disk")
	unmount, err := faulttest.Tmpfs(dir, "size=3m")
	if err != nil {
		t.Fatal(err)
	}
	defer unmount()
	if err := faulttest.ReadOnly(dir, true); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, rotate.Config{Packets: 300}, newLine(ether), rotate.Options{Dir: dir})
	next, err := until(r, 0, 500)
	if !errors.Is(err, syscall.EROFS) {
		t.Fatal(err)
	}
	if err := faulttest.ReadOnly(dir, false); err != nil {
		t.Fatal(err)
	}
	r.Resume()
	if next, err = until(r, next, 1000); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if kept := account(t, r, next); kept != 1000 {
		t.Errorf("%d packets", kept)
	}
	if s := r.sealed[0]; len(s.Gaps) != 1 || s.Gaps[0].Packets != 500 {
		t.Errorf("%+v", s)
	}
}

func TestWhatIsLostInTheEndIsTold(t *testing.T) {
	if err := faulttest.CanMount(); err != nil {
		t.Skip(err)
	}
	dir := filepath.Join(t.TempDir(), "disk")
	unmount, err := faulttest.Tmpfs(dir, "size=3m,nr_inodes=1")
	if err != nil {
		t.Fatal(err)
	}
	defer unmount()
	l := newLine(ether)
	r := newRig(t, rotate.Config{Packets: 300}, l, rotate.Options{Dir: dir})
	next, err := until(r, 0, 500)
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	l.stats[0].Dropped = 7
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if len(r.sealed) != 1 || r.sealed[0].Path != "" || r.sealed[0].Stats[0].Dropped != 7 {
		t.Errorf("%+v", r.sealed)
	}
	account(t, r, next)
}
