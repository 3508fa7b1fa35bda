package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"capagent/internal/ledger"
)

// failing is a ledger some of whose methods fail.
type failing struct {
	*ledger.Ledger
	written, note error
}

func (f *failing) EventsWritten(ctx context.Context, seq int64, head string) error {
	if f.written != nil {
		return f.written
	}
	return f.Ledger.EventsWritten(ctx, seq, head)
}

func (f *failing) Note(ctx context.Context, name string, data any) error {
	if f.note != nil {
		return f.note
	}
	return f.Ledger.Note(ctx, name, data)
}

var errDisk = errors.New("the disk is full")

func TestNoEventComesTwice(t *testing.T) {
	d := newDesk(t, Options{})
	for _, before := range []int{0, 2} { // also when the first batch of all is cut short
		for range before {
			d.note(t, "start")
		}
		out := &failing{Ledger: d.ledger, written: errDisk}
		d.outbox = out
		for range 3 {
			ok(t, d.ledger.Note(t.Context(), "gap", nil))
			if err := d.Drain(t.Context()); !errors.Is(err, errDisk) {
				t.Fatal(err)
			}
			d.whole(t) // in between, too
		}
		d = reopen(t, d.dir, Options{})
		d.opts.Version = "2.0.0" // another one may go on
		d.note(t, "stop")
		d.whole(t)
	}
	same(t, d.events(t), []string{"gap", "gap", "gap", "stop", "start", "start", "gap", "gap", "gap", "stop"})
}

func TestATornLineIsCutAndNoted(t *testing.T) {
	for _, tt := range []struct {
		name string
		torn func(whole []byte) []byte // what is behind the recorded lines
	}{
		{"half a line", func(whole []byte) []byte { return whole[:len(whole)/3] }},
		{"a line and a half", func(whole []byte) []byte { return whole[:len(whole)*3/4] }},
		{"a line without its newline", func(whole []byte) []byte { return whole[:len(whole)-1] }},
		{"blocks that never reached the disk", func(whole []byte) []byte { return make([]byte, 4096) }},
		{"a line and blocks", func(whole []byte) []byte { clear(whole[len(whole)/2+1:]); return whole }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDesk(t, Options{})
			d.note(t, "start")
			before := d.read(t, Name)
			d.outbox = &failing{Ledger: d.ledger, written: errDisk}
			ok(t, d.ledger.Note(t.Context(), "a", nil))
			ok(t, d.ledger.Note(t.Context(), "b", nil))
			if err := d.Drain(t.Context()); !errors.Is(err, errDisk) {
				t.Fatal(err)
			}
			torn := tt.torn(d.read(t, Name)[len(before):])
			d.write(t, Name, append(bytes.Clone(before), torn...))
			if r := d.whole(t); r.Torn == 0 {
				t.Errorf("%+v", r)
			}
			// A process that can't note it cuts nothing.
			d.outbox = &failing{Ledger: d.ledger, note: errDisk}
			if err := d.Drain(t.Context()); !errors.Is(err, errDisk) {
				t.Fatal(err)
			}
			if !bytes.HasSuffix(d.read(t, Name), torn) {
				t.Error("cut without a note")
			}
			d = reopen(t, d.dir, Options{})
			ok(t, d.Drain(t.Context()))
			same(t, d.events(t), []string{"start", "a", "b", "torn"})
			r := d.whole(t)
			rest := torn
			if a, behind, whole := bytes.Cut(torn, []byte("\n")); whole && len(a) > 0 {
				rest = behind // the line of a was whole
			}
			if len(r.Noted) != 1 || !strings.Contains(string(r.Noted[0].Data), fmt.Sprintf(`"bytes":%d,"sha256":"%s"`, len(rest), hash(rest))) {
				t.Errorf("%+v", r.Noted)
			}
			d.note(t, "c")
			d.whole(t)
		})
	}
}

// breakage is something that was done to a log of the events a, b and c.
var breakages = []struct {
	name string
	do   func(t *testing.T, d *desk, log []byte)
	line int64 // that Verify names
	what string
}{
	{"the last line is edited", func(t *testing.T, d *desk, log []byte) {
		d.write(t, Name, bytes.Replace(log, []byte(`{"name":"c"}`), []byte(`{"name":"x"}`), 1))
	}, 3, "changed"},
	{"the last line is cut off", func(t *testing.T, d *desk, log []byte) {
		d.write(t, Name, log[:bytes.LastIndexByte(log[:len(log)-1], '\n')+1])
	}, 2, "recorded it up to number 3"},
	{"the last line is cut short", func(t *testing.T, d *desk, log []byte) {
		d.write(t, Name, log[:len(log)-9])
	}, 3, "not whole"},
	{"it is emptied", func(t *testing.T, d *desk, _ []byte) { d.write(t, Name, nil) }, 0, "recorded it up to number 3"},
	{"it is deleted", func(t *testing.T, d *desk, _ []byte) { ok(t, os.Remove(d.path())) }, 0, "missing"},
	{"it is replaced", func(t *testing.T, d *desk, _ []byte) { d.write(t, Name, []byte("my notes\n")) }, 1, "not a line"},
	{"a line is put behind it", func(t *testing.T, d *desk, log []byte) {
		line, err := encode(ledger.Event{Seq: 4, Time: time.Now(), Name: "forged", Data: []byte("{}")}, "h", "v", hash(bytes.TrimSuffix(log[bytes.LastIndexByte(log[:len(log)-1], '\n')+1:], []byte("\n"))))
		ok(t, err)
		d.write(t, Name, append(log, line...))
	}, 4, "the ledger does not know it"},
	{"much is put behind it", func(t *testing.T, d *desk, log []byte) {
		d.write(t, Name, append(log, bytes.Repeat([]byte(strings.Repeat("x", 200)+"\n"), reach/200)...))
	}, 4, "not a line"},
}

func TestABreakIsNeverHidden(t *testing.T) {
	for _, tt := range breakages {
		t.Run(tt.name, func(t *testing.T) {
			d := newDesk(t, Options{})
			d.note(t, "a", "b", "c")
			tt.do(t, d, d.read(t, Name))
			check := func(when string) {
				t.Helper()
				r := d.verify(t)
				if r.OK() || r.Broken.Line != tt.line && when == "before" || !strings.Contains(r.Broken.What, tt.what) && when == "before" {
					t.Fatalf("%s: %v", when, r.Broken)
				}
				t.Logf("%s: %v", when, r.Broken)
			}
			check("before")
			ok(t, d.ledger.Note(t.Context(), "d", nil))
			d.outbox = &failing{Ledger: d.ledger, written: errDisk}
			for range 3 {
				_ = d.Drain(t.Context()) // noted once
			}
			d.outbox = d.ledger
			ok(t, d.Drain(t.Context()))
			check("after")
			d.note(t, "e")
			d = reopen(t, d.dir, Options{})
			d.note(t, "f")
			check("later")
			r := d.verify(t)
			if len(r.Noted) != 1 || r.Noted[0].Event != "break" {
				t.Errorf("%d notes", len(r.Noted))
			}
			names := fmt.Sprint(d.events(t))
			if !strings.HasSuffix(names, "d break e f]") || strings.Count(names, "break") > 1 {
				t.Error(names[max(0, len(names)-300):])
			}
		})
	}
}

func TestARebuiltLedgerGoesOnWithTheLog(t *testing.T) {
	for _, rotated := range []bool{false, true} {
		d := newDesk(t, Options{})
		d.note(t, "a", "b", "c")
		ok(t, d.ledger.Close())
		if rotated {
			ok(t, os.Rename(d.path(), filepath.Join(d.dir, archiveName(1))))
		} else {
			d.write(t, Name, append(d.read(t, Name), "torn"...))
		}
		ok(t, os.Remove(filepath.Join(d.dir, "ledger.db")))
		d = reopen(t, d.dir, Options{})
		if r := d.verify(t); r.OK() && !rotated {
			t.Errorf("%+v", r)
		}
		ok(t, d.ledger.Note(t.Context(), "d", nil))
		ok(t, d.Drain(t.Context()))
		d.note(t, "e")
		r := d.whole(t)
		want := "[a b c rebuilt d break torn e]"
		if rotated {
			want = "[a b c rebuilt d break e]"
		}
		if got := fmt.Sprint(d.events(t)); got != want || r.Noted[0].Event != "break" {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestALedgerThatWasSetBackIsABreak(t *testing.T) {
	d := newDesk(t, Options{})
	d.note(t, "a")
	ok(t, d.ledger.Close())
	backup := d.read(t, "ledger.db")
	d = reopen(t, d.dir, Options{})
	d.note(t, "b", "c")
	ok(t, d.ledger.Close())
	d.write(t, "ledger.db", backup)
	d = reopen(t, d.dir, Options{})
	if r := d.verify(t); r.OK() || r.Broken.Line != 2 {
		t.Errorf("%v", r.Broken)
	}
	d.note(t, "d")
	r := d.verify(t)
	if r.OK() || r.Broken.Line != 4 || len(r.Noted) != 1 {
		t.Errorf("%v, %d notes", r.Broken, len(r.Noted))
	}
	same(t, d.events(t), []string{"a", "b", "c", "d", "break"})
}
