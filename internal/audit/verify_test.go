package audit

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"capagent/internal/ledger"
)

// known is what a ledger recorded of a log.
type known struct {
	seq     int64
	head    string
	pending []ledger.Event
}

func (k known) AuditLock(context.Context) (func() error, error) {
	return func() error { return nil }, nil
}
func (k known) AuditHead(context.Context) (int64, string, error) { return k.seq, k.head, nil }
func (k known) Events(context.Context, int) ([]ledger.Event, error) {
	return k.pending, nil
}

// sample is a log with three lines a file, as Verify reads it.
func sample(t testing.TB, events int) (files map[string][]byte, k known) {
	t.Helper()
	d := newDesk(t, Options{MaxSize: 550})
	for i := range events {
		d.note(t, fmt.Sprintf("event_%d", i))
	}
	var err error
	k.seq, k.head, err = d.ledger.AuditHead(t.Context())
	ok(t, err)
	files = map[string][]byte{}
	old, err := archives(d.dir)
	ok(t, err)
	for _, name := range append(old, Name) {
		files[name] = d.read(t, name)
	}
	if len(files) != (events+2)/3 {
		t.Fatalf("%d files", len(files))
	}
	return files, k
}

func place1(t testing.TB, dir string, files map[string][]byte) {
	t.Helper()
	for name, b := range files {
		ok(t, os.WriteFile(filepath.Join(dir, name), b, 0o600))
	}
}

func verifyIn(t testing.TB, dir string, k Record) Result {
	t.Helper()
	r, err := Verify(t.Context(), dir, k)
	ok(t, err)
	return r
}

// TestEveryChangeOfAByteIsFound changes, removes and adds every single byte of a
// log in turn.
func TestEveryChangeOfAByteIsFound(t *testing.T) {
	files, k := sample(t, 5)
	dir := t.TempDir()
	place1(t, dir, files)
	if r := verifyIn(t, dir, k); !r.OK() || r.Lines != 5 {
		t.Fatalf("%+v", r)
	}
	tried := 0
	for name, b := range files {
		path := filepath.Join(dir, name)
		lineOf := func(at int) int64 { return int64(bytes.Count(b[:at], []byte("\n"))) + 1 }
		check := func(what string, at int, changed []byte) {
			t.Helper()
			tried++
			ok(t, os.Remove(path)) // ext4 writes out what is truncated and written again
			ok(t, os.WriteFile(path, changed, 0o600))
			r := verifyIn(t, dir, k)
			if r.OK() {
				if r.Torn > 0 && what == "added" && at == len(b) && name == Name {
					return // it may be the beginning of a line: a crash leaves that, too
				}
				t.Fatalf("%s byte %d of %s: not found", what, at, name)
			}
			// The line itself is named, or with a newline the one that it made or took.
			if n := r.Broken.Line - lineOf(min(at, len(b)-1)); r.Broken.File == name && (n < 0 || n > 1) {
				t.Errorf("%s byte %d in line %d of %s: %v", what, at, lineOf(at), name, r.Broken)
			}
		}
		for at := range b {
			for _, bit := range []byte{0x01, 0x20, b[at] ^ '\n'} {
				if bit == 0 {
					continue
				}
				changed := bytes.Clone(b)
				changed[at] ^= bit
				check("changed", at, changed)
			}
			check("removed", at, slices.Delete(bytes.Clone(b), at, at+1))
		}
		for at := 0; at <= len(b); at++ {
			for _, c := range []byte(" \n") {
				check("added", at, slices.Insert(bytes.Clone(b), at, c))
			}
		}
		ok(t, os.WriteFile(path, b, 0o600))
	}
	if r := verifyIn(t, dir, k); !r.OK() {
		t.Fatalf("%+v", r)
	}
	t.Logf("%d changes", tried)
}

func TestChangedLinesAndFilesAreFound(t *testing.T) {
	files, k := sample(t, 8)
	first, second := "audit-000000000001.log", "audit-000000000004.log"
	lines := func(name string) [][]byte {
		return bytes.SplitAfter(bytes.TrimSuffix(files[name], nil), []byte("\n"))[:3]
	}
	for _, tt := range []struct {
		name string
		do   func(files map[string][]byte)
		want string
	}{
		{"a line deleted", func(f map[string][]byte) { f[second] = bytes.Join(slices.Delete(lines(second), 1, 2), nil) }, second + " line 2: number 6 follows number 4: what was between is missing"},
		{"the first line deleted", func(f map[string][]byte) { f[first] = bytes.Join(slices.Delete(lines(first), 0, 1), nil) }, first + " line 1: the log begins with number 2; what was before it is missing"},
		{"lines swapped", func(f map[string][]byte) {
			l := lines(second)
			f[second] = bytes.Join([][]byte{l[0], l[2], l[1]}, nil)
		}, second + " line 2: number 6 follows number 4: what was between is missing"},
		{"a line twice", func(f map[string][]byte) {
			l := lines(second)
			f[second] = bytes.Join([][]byte{l[0], l[0], l[1], l[2]}, nil)
		}, second + " line 2: number 4 follows number 4: it was put in, or the log was set back"},
		{"a line made anew", func(f map[string][]byte) {
			l := lines(second)
			l[1] = bytes.Replace(l[1], []byte("event_4"), []byte("event_X"), 2)
			f[second] = bytes.Join(l, nil)
		}, second + " line 2: it was changed: the line behind it has another hash of it"},
		{"an archive deleted", func(f map[string][]byte) { delete(f, second) }, Name + " line 1: number 7 follows number 3: what was between is missing"},
		{"the first archive deleted", func(f map[string][]byte) { delete(f, first) }, second + " line 1: the log begins with number 4; what was before it is missing"},
		{"the log deleted", func(f map[string][]byte) { delete(f, Name) }, second + " line 3: the log ends here with number 6; the ledger recorded it up to number 8"},
		{"the log emptied", func(f map[string][]byte) { f[Name] = nil }, Name + ": the log ends here with number 6; the ledger recorded it up to number 8"},
		{"everything deleted", func(f map[string][]byte) { clear(f) }, Name + ": the log is missing; the ledger recorded it up to number 8"},
		{"the files swapped", func(f map[string][]byte) { f[first], f[second] = f[second], f[first] }, first + " line 1: the log begins with number 4; what was before it is missing"},
		{"an archive renamed", func(f map[string][]byte) { f["audit-000000000005.log"] = f[second]; delete(f, second) }, "audit-000000000005.log line 1: the file's name says that it begins with number 5, not 4"},
		{"an archive added", func(f map[string][]byte) { f["audit-000000000002.log"] = f[first] }, "audit-000000000002.log line 1: number 1 follows number 3: it was put in, or the log was set back"},
		{"an empty archive added", func(f map[string][]byte) { f["audit-000000000002.log"] = nil }, ""},
		{"an archive without its end", func(f map[string][]byte) { f[first] = f[first][:len(f[first])-1] }, first + " line 3: it is not whole"},
		{"a line too long", func(f map[string][]byte) {
			f[second] = slices.Concat(lines(second)[0], bytes.Repeat([]byte("x"), 3*maxLine), []byte("\n"), lines(second)[1])
		}, second + " line 2: not a line of the log: longer than 65536 bytes"},
		{"the rest from another log", func(f map[string][]byte) {
			other, _ := sample(t, 8)
			f[Name] = other[Name]
		}, second + " line 3: it was changed: the line behind it has another hash of it"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			changed := map[string][]byte{}
			for name, b := range files {
				changed[name] = bytes.Clone(b)
			}
			tt.do(changed)
			dir := t.TempDir()
			place1(t, dir, changed)
			r := verifyIn(t, dir, k)
			got := ""
			if !r.OK() {
				got = r.Broken.Error()
			}
			same(t, got, tt.want)
		})
	}
}

func TestALogWithoutItsLedger(t *testing.T) {
	files, _ := sample(t, 8)
	dir := t.TempDir()
	place1(t, dir, files)
	if r := verifyIn(t, dir, nil); !r.OK() || r.Seq != 8 {
		t.Errorf("%+v", r)
	}
	ok(t, os.Remove(filepath.Join(dir, Name)))
	if r := verifyIn(t, dir, nil); !r.OK() || r.Seq != 6 { // as far as it goes
		t.Errorf("%+v", r)
	}
	ok(t, os.WriteFile(filepath.Join(dir, Name), files[Name][:40], 0o600))
	if r := verifyIn(t, dir, nil); r.OK() || r.Broken.What != "it is not whole" {
		t.Errorf("%+v", r)
	}
	ok(t, os.Remove(filepath.Join(dir, Name)))
	ok(t, os.Mkdir(filepath.Join(dir, Name), 0o700))
	if _, err := Verify(t.Context(), dir, nil); err == nil {
		t.Error("a directory is no log")
	}
}

func TestALogOfAnotherLedgerIsSaid(t *testing.T) {
	files, _ := sample(t, 8)
	dir := t.TempDir()
	place1(t, dir, files)
	if r := verifyIn(t, dir, known{}); r.OK() || !strings.Contains(r.Broken.What, "knows nothing of this log") {
		t.Errorf("%+v", r)
	}
}

var big = flag.Int("big", 0, "lines of the log that TestVerifyingIsFlat reads")

func TestVerifyingIsFlat(t *testing.T) {
	if *big == 0 {
		t.Skip("-big 1000000 measures; some 500 MB")
	}
	dir := t.TempDir()
	prev, seq := genesis, int64(0)
	for part := range 4 {
		var b bytes.Buffer
		first := seq + 1
		for range *big / 4 {
			seq++
			e := ledger.Event{Seq: seq, Time: time.Now(), Name: "registered", Capture: seq, Data: []byte(`{"path":"/var/lib/capagent/spool/sensor-17-lan.pcapng","size":1000000,"sha256":"` + genesis + `","sha1":"` + genesis[:40] + `","source":"capture:lan","state":"queued"}`)}
			line, err := encode(e, "sensor-17", "1.2.3", prev)
			ok(t, err)
			prev = hash(line[:len(line)-1])
			b.Write(line)
		}
		name := archiveName(first)
		if part == 3 {
			name = Name
		}
		ok(t, os.WriteFile(filepath.Join(dir, name), b.Bytes(), 0o600))
	}
	begin, before := time.Now(), rss(t)
	r := verifyIn(t, dir, known{seq: seq, head: prev})
	t.Logf("%d lines in %v; memory grew by %d kB", r.Lines, time.Since(begin).Round(time.Millisecond), (rss(t)-before)>>10)
	if !r.OK() || r.Lines != seq {
		t.Errorf("%+v", r)
	}
}

func rss(t testing.TB) int64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	var total, resident int64
	_, err = fmt.Sscan(string(text), &total, &resident)
	ok(t, err)
	return resident * int64(os.Getpagesize())
}
