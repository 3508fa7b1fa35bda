package ledger

import (
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestNothingAcknowledgedIsLostByKill(t *testing.T) {
	path := newPath(t)
	acked := map[int64]string{}
	for round := range 40 {
		c := start(t, "write", path, strconv.Itoa(round))
		c.line()
		for lines := rand.IntN(25); ; lines-- {
			if lines == 0 {
				c.killSoon()
			}
			line, more := c.line()
			if !more {
				break
			}
			id, name, cut := strings.Cut(line, " ")
			n, err := strconv.ParseInt(id, 10, 64)
			if !cut || err != nil || !strings.HasPrefix(name, "/"+strconv.Itoa(round)+"/") {
				continue // the last line was cut off
			}
			acked[n] = name
		}
		c.wait()
	}
	l := open(t, path, Options{})
	if !l.Rebuilt().IsZero() {
		t.Fatal("the ledger was set aside")
	}
	have := map[int64]string{}
	for c, err := range l.List(t.Context(), Filter{}) {
		ok(t, err)
		have[c.ID] = c.Path
	}
	for id, name := range acked {
		// The child may have died within a line, after its number.
		if !strings.HasPrefix(have[id], name) {
			t.Errorf("capture %d %s was acknowledged; the ledger has %q", id, name, have[id])
		}
	}
	if len(acked) < 100 {
		t.Errorf("only %d rows were acknowledged", len(acked))
	}
	t.Logf("%d acknowledged rows, %d recorded", len(acked), len(have))
	if got := sqlite3CLI(t, path, `PRAGMA integrity_check`); got != "ok" {
		t.Error(got)
	}
}

func TestEveryKilledUploadIsFoundRestarted(t *testing.T) {
	path := newPath(t)
	l := open(t, path, Options{})
	var all []Found
	for i := range 600 {
		all = append(all, found("/"+strconv.Itoa(i), strconv.Itoa(i)))
	}
	register(t, l, all...)
	begun, done := map[string]bool{}, map[string]bool{}
	for range 10 {
		c := start(t, "finish", path)
		for lines := 1 + rand.IntN(25); ; lines-- {
			if lines == 0 {
				c.killSoon()
			}
			line, more := c.line()
			if !more {
				break
			}
			f := strings.Fields(line)
			switch {
			case len(f) == 3 && f[0] == "begun":
				if begun[f[1]] && f[2] != "true" {
					t.Errorf("capture %s was begun before and is not restarted", f[1])
				}
				if done[f[1]] {
					t.Errorf("capture %s was done and is begun again", f[1])
				}
				begun[f[1]] = true
			case len(f) == 2 && f[0] == "done":
				done[f[1]] = true
			}
		}
		c.wait()
	}
	t.Logf("%d begun, %d done", len(begun), len(done))
	if len(done) == 0 {
		t.Error("nothing was done")
	}
}

func TestAStartThatIsKilledLeavesNothingHalfMade(t *testing.T) {
	whole := 0
	for range 12 {
		path := newPath(t)
		c := start(t, "write", path, "x")
		c.line()
		time.AfterFunc(time.Duration(rand.IntN(50000))*time.Microsecond, func() { _ = c.cmd.Process.Kill() })
		for {
			if _, more := c.line(); !more {
				break
			}
		}
		c.wait()
		l := open(t, path, Options{})
		if !l.Rebuilt().IsZero() {
			t.Error("an unfinished start was taken for damage")
		}
		s, err := l.Counts(t.Context())
		ok(t, err)
		if len(s.States) > 0 {
			whole++
		}
		ok(t, l.Close())
	}
	t.Logf("%d of 12 came as far as a first row", whole)
}
