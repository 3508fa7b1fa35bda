package pcapfile_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"capagent/internal/disk"
	"capagent/internal/faulttest"
	"capagent/internal/packet"
	"capagent/internal/pcapio"
	"capagent/rotate/pcapfile"
)

// forms are the ways to a file; kinds of file systems are chosen by the tests.
var forms = map[string]struct {
	format pcapio.Format
	opts   pcapfile.Options
}{
	"pcap":            {pcapio.Pcap, pcapfile.Options{BufferSize: 64 << 10}},
	"pcapng":          {pcapio.Pcapng, pcapfile.Options{BufferSize: 64 << 10, Flush: time.Nanosecond}},
	"pcap, buffered":  {pcapio.Pcap, pcapfile.Options{BufferSize: 64 << 10, Buffered: true, Flush: time.Nanosecond}},
	"pcapng, tiny":    {pcapio.Pcapng, pcapfile.Options{BufferSize: 4096, Buffers: 2}},
	"pcap, no flush":  {pcapio.Pcap, pcapfile.Options{BufferSize: 8192, Buffers: 2, Flush: -1}},
	"pcap, big parts": {pcapio.Pcap, pcapfile.Options{}},
}

func needRoot(t *testing.T, kinds ...string) {
	t.Helper()
	if err := faulttest.CanMount(kinds...); err != nil {
		t.Skip(err)
	}
}

// untilItFails writes numbered packets until that fails, most at the most, and
// returns what the file's end says.
func untilItFails(w *pcapfile.Writer, most int64) (pcapfile.Result, error, error) {
	batch := make([]packet.Packet, 100)
	var err error
	for n := int64(0); n < most && err == nil; n += int64(len(batch)) {
		numbered(batch, n)
		err = w.Write(batch)
	}
	result, end := w.End(pcapfile.Trailer{Stats: make([]pcapfile.Stats, 1)}).Wait()
	return result, err, end
}

// holds checks that path is a whole file of the first packets that result tells.
func holds(t *testing.T, path string, result pcapfile.Result) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	all, err := read(t, path)
	if err != nil || info.Size() != result.Size || uint64(len(all)) != result.Packets {
		t.Errorf("%d bytes, %d packets, %v; %+v was said", info.Size(), len(all), err, result)
	}
	if err := follows(all, 0); err != nil {
		t.Error(err)
	}
}

func TestAFullDiskLeavesWholeRecords(t *testing.T) {
	needRoot(t, "ext4")
	dir := t.TempDir()
	unmount, err := faulttest.Tmpfs(filepath.Join(dir, "tmpfs"), "size=3004k")
	if err != nil {
		t.Fatal(err)
	}
	defer unmount()
	d, err := faulttest.NewDisk(filepath.Join(dir, "image"), filepath.Join(dir, "ext4"), "ext4", "")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	ballast, err := os.Create(filepath.Join(d.Mount, "ballast"))
	if err != nil {
		t.Fatal(err)
	}
	defer ballast.Close()
	if err := syscall.Fallocate(int(ballast.Fd()), 0, 0, 75<<20); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"tmpfs", "ext4"} {
		for name, form := range forms {
			t.Run(kind+"/"+name, func(t *testing.T) {
				path := filepath.Join(dir, kind, "f")
				w, err := pcapfile.New(form.opts)
				if err != nil {
					t.Fatal(err)
				}
				defer w.Close()
				h := header(form.format, raw)
				h.Expect = 1 << 30 // takes what there is
				begin(t, w, path, h)
				result, err, end := untilItFails(w, 1_000_000)
				for _, err := range []error{err, end} {
					if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), path) || strings.Count(err.Error(), path) != 1 {
						t.Errorf("not what a full disk should be called: %v", err)
					}
				}
				if result.Packets < 1000 {
					t.Errorf("%+v", result)
				}
				holds(t, path, result)
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
				begin(t, w, path, h) // the next file is fine
				result, err, end = untilItFails(w, 1000)
				if err != nil || end != nil {
					t.Fatal(err, end)
				}
				holds(t, path, result)
				if n := blocks(t, path); n > result.Size+64<<10 {
					t.Errorf("a file of %d bytes keeps %d", result.Size, n)
				}
				_ = os.Remove(path)
			})
		}
	}
}

func TestAFileThatHasEndedSurvivesAPowerCut(t *testing.T) {
	needRoot(t, "ext4")
	dir := t.TempDir()
	d, err := faulttest.NewDisk(filepath.Join(dir, "image"), filepath.Join(dir, "ext4"), "ext4", "")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	results := map[string]pcapfile.Result{}
	for name, form := range forms {
		w := newWriter(t, form.opts)
		path := filepath.Join(d.Mount, name)
		begin(t, w, path, header(form.format, raw))
		result, err, end := untilItFails(w, 10_000)
		if err != nil || end != nil {
			t.Fatal(err, end)
		}
		results[path] = result
	}
	if err := disk.SyncDir(d.Mount); err != nil { // the names
		t.Fatal(err)
	}
	if err := errors.Join(d.Cut(), faulttest.Disks{d}.Restore()); err != nil {
		t.Fatal(err)
	}
	for path, result := range results {
		holds(t, path, result)
	}
}

func TestAFailingDiskIsReported(t *testing.T) {
	needRoot(t)
	bad, err := faulttest.NewBadFS(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer bad.Close()
	for name, form := range forms {
		t.Run(name, func(t *testing.T) {
			w, err := pcapfile.New(form.opts)
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(bad.Mount, name)
			begin(t, w, path, header(form.format, raw))
			batch := make([]packet.Packet, 100)
			numbered(batch, 0)
			if err := w.Write(batch); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the packets are in the file", func() bool { // and so nothing of them may be lost
				info, _ := os.Stat(path)
				return w.Flush() == nil && info.Size() == w.Size()
			})
			bad.FailWrites(syscall.EIO)
			result, err, end := untilItFails(w, 100_000)
			bad.FailWrites(0)
			if !errors.Is(err, syscall.EIO) || !errors.Is(end, syscall.EIO) {
				t.Errorf("%v, %v", err, end)
			}
			if result.Packets != uint64(len(batch)) {
				t.Errorf("%+v, of which %d packets were in the file", result, len(batch))
			}
			holds(t, path, result)

			begin(t, w, path+" 2", header(form.format, raw))
			bad.FailFsyncs(syscall.EIO)
			result, err, end = untilItFails(w, 1000)
			bad.FailFsyncs(0)
			if err != nil || !errors.Is(end, syscall.EIO) {
				t.Errorf("%v, %v", err, end)
			}
			holds(t, path+" 2", result)

			begin(t, w, path+" 3", header(form.format, raw))
			bad.FailFsyncs(syscall.EIO)
			if err := w.Close(); !errors.Is(err, syscall.EIO) {
				t.Errorf("nobody was told: %v", err)
			}
			bad.FailFsyncs(0)
		})
	}
}

func TestEveryFileSystemWillDo(t *testing.T) {
	needRoot(t, "xfs")
	dir := t.TempDir()
	unmount, err := faulttest.Tmpfs(filepath.Join(dir, "tmpfs"), "size=100m")
	if err != nil {
		t.Fatal(err)
	}
	defer unmount()
	bad, err := faulttest.NewBadFS(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer bad.Close()
	xfs, err := faulttest.NewDisk(filepath.Join(dir, "image"), filepath.Join(dir, "xfs"), "xfs", "")
	if err != nil {
		t.Fatal(err)
	}
	defer xfs.Close()
	for _, place := range []string{filepath.Join(dir, "tmpfs"), bad.Mount, xfs.Mount, dir} {
		for name, form := range forms {
			for _, misaligned := range []bool{false, true} {
				path := filepath.Join(place, name)
				w := newWriter(t, form.opts)
				if misaligned {
					w.Misalign()
				}
				begin(t, w, path, header(form.format, raw))
				result, err, end := untilItFails(w, 5000)
				if err != nil || end != nil {
					t.Fatal(path, err, end)
				}
				holds(t, path, result)
				_ = os.Remove(path)
			}
		}
	}
}

func TestASlowReaderOfAPipeGetsEverything(t *testing.T) {
	for name, form := range forms {
		r, f, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		if form.opts.BufferSize == 0 {
			form.opts.BufferSize = 1 << 20 // so that the buffers don't hold everything
		}
		w := newWriter(t, form.opts)
		if err := w.Begin(f, header(form.format, raw)); err != nil {
			t.Fatal(err)
		}
		const packets = 20_000
		written := make(chan error)
		go func() {
			batch := make([]packet.Packet, packets)
			numbered(batch, 0)
			written <- w.Write(batch)
		}()
		select {
		case err := <-written:
			t.Fatalf("%s: %v: 14 MB were taken that nobody has read", name, err)
		case <-time.After(20 * time.Millisecond):
		}
		var all bytes.Buffer
		done := make(chan error)
		go func() {
			_, err := io.Copy(&all, r)
			done <- err
		}()
		if err := <-written; err != nil {
			t.Fatal(err)
		}
		if w.Waited() == 0 {
			t.Error("it waited, and does not say so")
		}
		if _, err := w.End(pcapfile.Trailer{}).Wait(); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "f")
		_ = os.WriteFile(path, all.Bytes(), 0o600)
		got, err := read(t, path)
		if err != nil || len(got) != packets || follows(got, 0) != nil {
			t.Errorf("%s: %d packets, %v, %v", name, len(got), err, follows(got, 0))
		}
	}
}

func TestAPipeThatNobodyReadsIsAnError(t *testing.T) {
	r, f, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	_ = r.Close()
	w := newWriter(t, small)
	if err := w.Begin(f, header(pcapio.Pcap, raw)); err != nil {
		t.Fatal(err)
	}
	if _, err, end := untilItFails(w, 100_000); !errors.Is(err, syscall.EPIPE) || !errors.Is(end, syscall.EPIPE) {
		t.Error(err, end)
	}
}
