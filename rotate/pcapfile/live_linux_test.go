package pcapfile_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"capagent/internal/packet"
	"capagent/internal/pcapio"
	"capagent/rotate/pcapfile"

	"golang.org/x/sys/unix"
)

// eventually waits for something that another goroutine does soon.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not so after 20 s: " + what)
		}
	}
}

func TestATrickleIsInTheFileSoon(t *testing.T) {
	for _, format := range []pcapio.Format{pcapio.Pcap, pcapio.Pcapng} {
		w := newWriter(t, pcapfile.Options{Flush: 5 * time.Millisecond})
		path := filepath.Join(t.TempDir(), "f")
		begin(t, w, path, header(format, raw))
		batch := make([]packet.Packet, 1)
		for n := range int64(20) {
			numbered(batch, n)
			if err := w.Write(batch); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the packet is in the file", func() bool {
				if err := w.Write(nil); err != nil { // as a reader does that has seen none
					t.Fatal(err)
				}
				info, _ := os.Stat(path)
				return info.Size() == w.Size()
			})
			got, err := read(t, path)
			if err != nil || int64(len(got)) != n+1 || follows(got, 0) != nil {
				t.Fatal(len(got), err, follows(got, 0))
			}
		}
	}
}

func TestAnybodyMayReadAGrowingFile(t *testing.T) {
	for name, form := range forms {
		form.opts.Flush = time.Millisecond
		w := newWriter(t, form.opts)
		path := filepath.Join(t.TempDir(), "f")
		begin(t, w, path, header(form.format, raw))
		done := make(chan error)
		go func() {
			batch := make([]packet.Packet, 200)
			var err error
			for n := int64(0); n < 8_000 && err == nil; n += int64(len(batch)) {
				numbered(batch, n)
				err = w.Write(batch)
				time.Sleep(200 * time.Microsecond)
			}
			_, end := w.End(pcapfile.Trailer{}).Wait()
			done <- errors.Join(err, end)
		}()
		seen := 0
		for looking := true; looking; {
			select {
			case err := <-done:
				if err != nil {
					t.Fatal(err)
				}
				looking = false
			case <-time.After(5 * time.Millisecond):
			}
			if info, err := os.Stat(path); err != nil || info.Size() < 1000 {
				continue
			}
			got, err := read(t, path)
			if err != nil && !errors.Is(err, pcapio.ErrTruncated) {
				t.Fatalf("%s: %v", name, err)
			}
			if err := follows(got, 0); err != nil || len(got) < seen {
				t.Fatalf("%s: %d packets after %d: %v", name, len(got), seen, err)
			}
			seen = len(got)
		}
		if seen != 8_000 {
			t.Errorf("%s: %d packets in the end", name, seen)
		}
	}
}

// blocks is how many bytes of the disk a file takes.
func blocks(t *testing.T, path string) int64 {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks * 512
}

func TestWhatWasAllocatedIsGivenBack(t *testing.T) {
	w := newWriter(t, pcapfile.Options{BufferSize: 64 << 10})
	path := filepath.Join(t.TempDir(), "f")
	h := header(pcapio.Pcap, raw)
	h.Expect = 64 << 20
	begin(t, w, path, h)
	batch := make([]packet.Packet, 1000)
	numbered(batch, 0)
	if err := w.Write(batch); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the file has its blocks", func() bool { return blocks(t, path) >= h.Expect })
	result, err := w.End(pcapfile.Trailer{}).Wait()
	if err != nil {
		t.Fatal(err)
	}
	if n := blocks(t, path); n > result.Size+64<<10 {
		t.Errorf("a file of %d bytes keeps %d", result.Size, n)
	}
}

func TestTheCacheIsNotFilled(t *testing.T) {
	for _, buffered := range []bool{false, true} {
		w := newWriter(t, pcapfile.Options{BufferSize: 256 << 10, Buffered: buffered})
		path := filepath.Join(t.TempDir(), "f")
		begin(t, w, path, header(pcapio.Pcap, raw))
		result, err, end := untilItFails(w, 20_000)
		if err != nil || end != nil {
			t.Fatal(err, end)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		var in unix.Cachestat_t
		if err := unix.Cachestat(uint(f.Fd()), &unix.CachestatRange{}, &in, 0); err != nil {
			t.Skip(err)
		}
		if most := uint64(3 * 256 << 10 / os.Getpagesize()); in.Cache > most {
			t.Errorf("buffered %v: the cache holds %d pages of %d bytes, more than %d", buffered, in.Cache, result.Size, most)
		}
	}
}

func TestAFileOpenForAppendingIsRefused(t *testing.T) {
	f, err := os.OpenFile(filepath.Join(t.TempDir(), "f"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := newWriter(t, small).Begin(f, header(pcapio.Pcap, raw)); err == nil {
		t.Error("its first bytes may come a second time")
	}
}

func TestCreateTouchesNothingOfOthers(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	_ = os.WriteFile(path("there"), []byte("old"), 0o644)
	_ = os.Symlink("there", path("link"))
	_ = os.Symlink("nowhere", path("dangling"))
	_ = syscall.Mkfifo(path("fifo"), 0o600)
	for _, name := range []string{"there", "link", "dangling", "fifo", "no/folder"} {
		if f, err := pcapfile.Create(path(name), false); err == nil {
			t.Errorf("%s was made: %s", name, f.Name())
		}
	}
	for _, name := range []string{"link", "dangling", "fifo", "."} {
		if f, err := pcapfile.Create(path(name), true); err == nil {
			t.Errorf("%s was replaced: %s", name, f.Name())
		}
	}
	if b, _ := os.ReadFile(path("there")); string(b) != "old" {
		t.Errorf("it was touched: %q", b)
	}
	f, err := pcapfile.Create(path("there"), true)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if b, _ := os.ReadFile(path("there")); len(b) > 0 {
		t.Errorf("it still has %q", b)
	}
	f, err = pcapfile.Create(path("new"), false)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if info, _ := f.Stat(); info.Mode().Perm() != 0o600 {
		t.Error(info.Mode())
	}
}
