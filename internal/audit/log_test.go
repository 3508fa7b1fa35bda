package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"capagent/internal/ledger"
)

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func same(t testing.TB, got, want any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Fatalf("unexpected (-want +got):\n%s", d)
	}
}

// desk is a ledger and its log in one state directory.
type desk struct {
	*Log
	ledger *ledger.Ledger
	dir    string
}

func newDesk(t testing.TB, opts Options) *desk { return reopen(t, t.TempDir(), opts) }

// reopen is the next process.
func reopen(t testing.TB, dir string, opts Options) *desk {
	t.Helper()
	l, err := ledger.Open(t.Context(), filepath.Join(dir, "ledger.db"), ledger.Options{})
	ok(t, err)
	t.Cleanup(func() { ok(t, l.Close()) })
	opts.Dir, opts.Host, opts.Version = dir, "sensor-17", "1.2.3"
	return &desk{New(l, opts), l, dir}
}

// note makes events and drains them one by one.
func (d *desk) note(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		ok(t, d.ledger.Note(t.Context(), name, map[string]string{"name": name}))
		ok(t, d.Drain(t.Context()))
	}
}

func (d *desk) read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(d.dir, name))
	ok(t, err)
	return b
}

func (d *desk) write(t testing.TB, name string, b []byte) {
	t.Helper()
	ok(t, os.WriteFile(filepath.Join(d.dir, name), b, 0o600))
}

// events returns the names of the events in all files.
func (d *desk) events(t testing.TB) (names []string) {
	t.Helper()
	old, err := archives(d.dir)
	ok(t, err)
	for _, file := range append(old, Name) {
		for raw := range bytes.Lines(d.read(t, file)) {
			line, err := parse(bytes.TrimSuffix(raw, []byte("\n")))
			if err != nil {
				names = append(names, "?")
			} else {
				names = append(names, line.Event)
			}
		}
	}
	return names
}

func (d *desk) verify(t testing.TB) Result {
	t.Helper()
	r, err := Verify(t.Context(), d.dir, d.ledger)
	ok(t, err)
	return r
}

// whole demands that the log is in order.
func (d *desk) whole(t testing.TB) Result {
	t.Helper()
	r := d.verify(t)
	if !r.OK() {
		t.Fatalf("broken: %v", r.Broken)
	}
	return r
}

func TestEveryEventIsALine(t *testing.T) {
	d := newDesk(t, Options{})
	begin := time.Now().UTC().Add(-time.Millisecond)
	ok(t, d.Drain(t.Context())) // nothing to write makes no file
	if _, err := os.Stat(d.path()); err == nil {
		t.Error("an empty log")
	}
	if r := d.whole(t); r.Lines != 0 {
		t.Errorf("%+v", r)
	}
	f := ledger.Found{Source: "import", Path: "/evidence/<ü>\xff.pcap", Name: "x", Destination: "https://c", State: ledger.Queued}
	f.SHA256, f.SHA1, f.Size = "aa", "bb", 7
	regs, err := d.ledger.Register(t.Context(), []ledger.Found{f})
	ok(t, err)
	ok(t, d.ledger.SetState(t.Context(), regs[0].ID, ledger.Held, "a reason"))
	ok(t, d.ledger.Note(t.Context(), "gap", nil))
	ok(t, d.Drain(t.Context()))
	lines := strings.SplitAfter(string(d.read(t, Name)), "\n")
	if len(lines) != 4 || lines[3] != "" {
		t.Fatalf("%q", lines)
	}
	prev := strings.Repeat("0", 64)
	for i, want := range []string{
		`"event":"registered","capture":1,"data":{"path":"/evidence/<ü>\ufffd.pcap","path_base64":"L2V2aWRlbmNlLzzDvD7/LnBjYXA=","size":7,"sha256":"aa","sha1":"bb","source":"import","state":"queued"}`,
		`"event":"state","capture":1,"data":{"from":"queued","to":"held","reason":"a reason"}`,
		`"event":"gap","data":{}`,
	} {
		var l Line
		ok(t, json.Unmarshal([]byte(lines[i]), &l))
		at, err := time.Parse(time.RFC3339Nano, l.Time)
		ok(t, err)
		if at.Before(begin) || at.After(time.Now()) || !strings.HasSuffix(l.Time, "Z") {
			t.Errorf("time %s", l.Time)
		}
		full := fmt.Sprintf(`{"seq":%d,"time":"%s","host":"sensor-17","version":"1.2.3",%s,"prev":"%s"}`+"\n", i+1, l.Time, want, prev)
		same(t, lines[i], full)
		prev = hash([]byte(strings.TrimSuffix(lines[i], "\n")))
	}
	r := d.whole(t)
	same(t, r, Result{Files: 1, Lines: 3, Seq: 3, Head: prev, Last: r.Last})
	if info, err := os.Stat(d.path()); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	events, err := d.ledger.Events(t.Context(), 9)
	ok(t, err)
	if len(events) > 0 {
		t.Errorf("%d events stay in the ledger", len(events))
	}
	seq, head, err := d.ledger.AuditHead(t.Context())
	ok(t, err)
	if seq != 3 || head != prev {
		t.Errorf("recorded %d %s", seq, head)
	}
}

func TestLogsAreArchived(t *testing.T) {
	d := newDesk(t, Options{MaxSize: 600})
	for range 10 {
		d.note(t, "start")
	}
	old, err := archives(d.dir)
	ok(t, err)
	same(t, old, []string{"audit-000000000001.log", "audit-000000000004.log", "audit-000000000007.log"})
	if r := d.whole(t); r.Files != 4 || r.Lines != 10 {
		t.Errorf("%+v", r)
	}

	t.Run("a crash after the renaming", func(t *testing.T) {
		ok(t, os.Rename(d.path(), filepath.Join(d.dir, "audit-000000000010.log")))
		d.whole(t)
		d.note(t, "start")
		if r := d.whole(t); r.Files != 5 || r.Lines != 11 || r.Noted != nil {
			t.Errorf("%+v", r)
		}
	})
	t.Run("no file is written over", func(t *testing.T) {
		d.write(t, "audit-000000000011.log", []byte("what is this\n"))
		d.note(t, "a", "b", "c", "d", "e")
		same(t, string(d.read(t, "audit-000000000011.log")), "what is this\n")
		if r := d.verify(t); r.OK() || r.Broken.File != "audit-000000000011.log" {
			t.Errorf("%v", r.Broken)
		}
		ok(t, os.Remove(filepath.Join(d.dir, "audit-000000000011.log")))
		d.whole(t)
	})
}

func TestManyMayWriteAtOnce(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	for range 4 {
		d := reopen(t, dir, Options{MaxSize: 2000})
		for range 2 {
			wg.Go(func() {
				for range 20 {
					if err := errors.Join(d.ledger.Note(t.Context(), "x", nil), d.Drain(t.Context())); err != nil {
						t.Error(err)
					}
					if r, err := Verify(t.Context(), dir, d.ledger); err != nil || !r.OK() {
						t.Error(r.Broken, err)
					}
				}
			})
		}
	}
	wg.Wait()
	if r := reopen(t, dir, Options{}).whole(t); r.Lines != 160 {
		t.Errorf("%+v", r)
	}
}

func TestAnEventThatIsUnfitKeepsNothingOut(t *testing.T) {
	line, err := encode(ledger.Event{Seq: 1, Time: time.Now(), Name: "x", Data: bytes.Repeat([]byte("x"), 2*maxLine)}, "h", "v", genesis)
	ok(t, err)
	if _, err := parse(line[:len(line)-1]); err != nil || len(line) > maxLine || !bytes.Contains(line, []byte(`"unfit":131072`)) {
		t.Errorf("%s, %v", line, err)
	}
}

func TestManyEventsComeInBatches(t *testing.T) {
	d := newDesk(t, Options{})
	var found []ledger.Found
	for i := range 3 * batch {
		f := ledger.Found{Source: "import", Path: fmt.Sprintf("/%d/%s", i, strings.Repeat("\x01", 1000)), Destination: "https://c", State: ledger.Queued}
		found = append(found, f)
	}
	_, err := d.ledger.Register(t.Context(), found)
	ok(t, err)
	ok(t, d.Drain(t.Context()))
	if r := d.whole(t); r.Lines != 3*batch {
		t.Errorf("%+v", r)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	ok(t, d.ledger.Note(t.Context(), "x", nil))
	if err := d.Drain(over); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := Verify(over, d.dir, nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	d.note(t, "y")
	d.whole(t)
}
