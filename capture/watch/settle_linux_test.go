package watch

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestChangeInTheTickThatStillLasts(t *testing.T) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &now); err != nil {
		t.Fatal(err)
	}
	for after, want := range map[time.Duration]bool{
		10 * time.Millisecond: true, // a tick or two ahead of what was read above
		-time.Second:          false,
		time.Hour:             false, // the clock was set back: nothing can be told
	} {
		at := now.Nano() + int64(after)
		if got := sameTick(facts{modified: at}); got != want {
			t.Errorf("modified %s from now: %v", after, got)
		}
		if got := sameTick(facts{changed: at}); got != want {
			t.Errorf("changed %s from now: %v", after, got)
		}
	}
}

func TestInspectTellsOfWriters(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	expect := func(want ...state) {
		t.Helper()
		_, got, err := inspect(path)
		for _, w := range want {
			if err == nil && got == w {
				return
			}
		}
		t.Errorf("state %d, %v; want %d", got, err, want)
	}
	expect(written)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	expect(closed, young)

	// Somebody else's read lease is no writer, a write lease is one.
	f, err = os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	lease := func(kind int) {
		t.Helper()
		if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, kind); err != nil {
			t.Fatal(err)
		}
	}
	lease(unix.F_RDLCK)
	expect(closed, young)
	lease(unix.F_WRLCK)
	expect(written)
	lease(unix.F_UNLCK)
	expect(closed, young)

	// A file that is mapped for writing has a writer, though it was closed.
	g, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Truncate(4096); err != nil {
		t.Fatal(err)
	}
	mapped, err := unix.Mmap(int(g.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	expect(written)
	if err := unix.Munmap(mapped); err != nil {
		t.Fatal(err)
	}
	expect(closed, young)
}
