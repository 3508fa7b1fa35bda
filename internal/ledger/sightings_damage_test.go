package ledger

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

func TestSightingsSurviveKills(t *testing.T) {
	path := newPath(t)
	var last int64
	for range 30 {
		c := start(t, "sight", path, strconv.FormatInt(last+1, 10))
		c.line()
		for lines := rand.IntN(25); ; lines-- {
			if lines == 0 {
				c.killSoon()
			}
			line, more := c.line()
			if !more {
				break
			}
			if id, err := strconv.ParseInt(line, 10, 64); err == nil && id == last+1 {
				last = id // the last line may be cut off
			}
		}
		c.wait()
	}
	if last < 100 {
		t.Errorf("only %d captures were recorded", last)
	}
	l := open(t, path, Options{})
	h := find(t, l, Search{Wanted: wanted("host", "everywhere.example.com"), Limit: MaxHits})
	if h.Total < last || int64(len(h.Hits)) != h.Total {
		t.Errorf("%d captures are found, %d counted; %d were acknowledged", len(h.Hits), h.Total, last)
	}
	for _, id := range []int64{1, last / 2, last} {
		s, err := l.Sightings(t.Context(), id)
		if err != nil || len(s) != 42 {
			t.Errorf("capture %d: %d sightings, %v", id, len(s), err)
		}
	}
	checkSegments(t, l)
	if len(setAsideIn(t, path)) > 0 {
		t.Error("a store was set aside")
	}
}

// setAsideIn lists the stores that were set aside.
func setAsideIn(t testing.TB, path string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(filepath.Dir(path), "sightings.db.damaged-*"))
	ok(t, err)
	return found
}

func TestADamagedStoreIsBegunAnewAndTheLedgerStays(t *testing.T) {
	path := newPath(t)
	l := open(t, path, Options{})
	id := register(t, l, found("/a", "a"))[0].ID
	many(t, l, id, 300)
	store := l.SightingsPath()
	ok(t, l.Close())
	good, err := os.ReadFile(store)
	ok(t, err)
	for _, tt := range []struct {
		name   string
		damage func([]byte) []byte
	}{
		{"not a database", func([]byte) []byte { return []byte("these are the notes of somebody\n") }},
		{"zeros", func(b []byte) []byte { return make([]byte, len(b)) }},
		{"empty", func([]byte) []byte { return nil }},
		{"half a page", func(b []byte) []byte { return b[:2048] }},
		{"a zeroed first page", func(b []byte) []byte { clear(b[:4096]); return b }},
		{"all but the first pages", func(b []byte) []byte { clear(b[4*4096:]); return b }},
		{"another application", func(b []byte) []byte { b[68]++; return b }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, name := range setAsideIn(t, path) {
				ok(t, os.Remove(name))
			}
			bad := tt.damage(bytes.Clone(good))
			_ = os.Remove(store + "-wal")
			_ = os.Remove(store + "-shm")
			ok(t, os.WriteFile(store, bad, 0o600))
			r := open(t, path, Options{ReadOnly: true})
			_, err := r.Find(t.Context(), Search{Wanted: wanted("host", "everywhere.example.com"), Limit: 1})
			if len(bad) > 0 && !errors.Is(err, errSightings) && !isDamage(err) {
				t.Errorf("for reading: %v", err)
			}
			if len(setAsideIn(t, path)) > 0 {
				t.Fatal("reading set the store aside")
			}
			ok(t, r.Close())
			var log bytes.Buffer
			l := open(t, path, Options{Log: zerolog.New(&log)})
			ok(t, l.Sight(t.Context(), 5, []Sighting{sighting("host", "new.example.com", 1, 1)}))
			same(t, brief(find(t, l, Search{Wanted: []Wanted{{"host", "example.com", true}}})), "5 new.example.com\n1 false\n")
			if n := strings.Count(log.String(), "set_aside"); n != 1 || len(setAsideIn(t, path)) != 1 {
				t.Errorf("%q set aside; log: %s", setAsideIn(t, path), &log)
			}
			if get(t, l, id).Path != "/a" || !l.Rebuilt().IsZero() {
				t.Error("the ledger was harmed")
			}
			ok(t, l.Close())
		})
	}
}

func TestDamageThatIsMetLaterIsSetAsideByTheSameProcess(t *testing.T) {
	path := newPath(t)
	l := open(t, path, Options{})
	many(t, l, 1, 200)
	ok(t, l.withSightings(t.Context(), func(s *sightStore) error {
		_, err1 := s.w.ExecContext(t.Context(), `UPDATE blocks0 SET data = CAST(substr(data, 1, length(data) - 1) || x'00' AS BLOB)`)
		_, err2 := s.w.ExecContext(t.Context(), `UPDATE blocks1 SET data = CAST(substr(data, 1, length(data) - 1) || x'00' AS BLOB)`)
		return errors.Join(err1, err2)
	}))
	_, err := l.Find(t.Context(), Search{Wanted: wanted("host", "everywhere.example.com"), Limit: 1})
	if !errors.Is(err, errSightings) || errors.Is(err, ErrDamaged) {
		t.Errorf("%v", err)
	}
	ok(t, l.Sight(t.Context(), 201, []Sighting{sighting("host", "new.example.com", 1, 1)}))
	if len(setAsideIn(t, path)) != 1 {
		t.Errorf("%q", setAsideIn(t, path))
	}
	same(t, brief(find(t, l, Search{Wanted: wanted("host", "new.example.com")})), "201 new.example.com\n1 false\n")
}

func TestADamagedStoreThatOthersUseStaysAsItIs(t *testing.T) {
	path := newPath(t)
	other := open(t, path, Options{})
	many(t, other, 1, 20)
	l := open(t, path, Options{})
	many(t, l, 21, 30)
	ok(t, l.withSightings(t.Context(), func(s *sightStore) error {
		_, err := s.w.ExecContext(t.Context(), `UPDATE blocks0 SET data = x'00'`)
		return err
	}))
	for range 2 {
		if _, err := l.Find(t.Context(), Search{Wanted: wanted("host", "h3.example.org"), Limit: 1}); !errors.Is(err, errSightings) {
			t.Errorf("%v", err)
		}
	}
	if len(setAsideIn(t, path)) != 0 {
		t.Error("a store that another process uses was set aside")
	}
}

func TestSightingsOfAnotherLedgerAreNotTakenForOnes(t *testing.T) {
	path := newPath(t)
	l := open(t, path, Options{})
	many(t, l, 1, 10)
	ok(t, l.Close())
	for _, suffix := range []string{"", "-wal", "-shm", ".lock"} {
		if err := os.Remove(path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	l = open(t, path, Options{})
	r := open(t, path, Options{ReadOnly: true})
	same(t, brief(find(t, r, Search{Wanted: wanted("host", "h3.example.org")})), "0 false\n")
	same(t, brief(find(t, l, Search{Wanted: wanted("host", "h3.example.org")})), "0 false\n")
	if len(setAsideIn(t, path)) != 1 {
		t.Errorf("%q", setAsideIn(t, path))
	}
}

func TestReadersSeeWhatAnotherProcessWrites(t *testing.T) {
	path := newPath(t)
	r0 := open(t, path, Options{}) // makes the ledger
	ok(t, r0.Close())
	r := open(t, path, Options{ReadOnly: true})
	same(t, brief(find(t, r, Search{Wanted: wanted("host", "h3.example.com")})), "0 false\n")
	if err := r.Sight(t.Context(), 1, nil); !errors.Is(err, ErrReadOnly) {
		t.Error(err)
	}
	if _, err := os.Stat(r.SightingsPath()); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a reader made the store")
	}
	c := start(t, "sight", path, "1")
	for range 61 {
		c.line()
	}
	for id := range 60 {
		h := find(t, r, Search{Wanted: wanted("host", "h"+strconv.Itoa(id+1)+".example.com")})
		if h.Total != 1 {
			t.Fatalf("capture %d: %s", id+1, brief(h))
		}
	}
	c.kill()
	ok(t, os.Chmod(filepath.Dir(path), 0o500))
	t.Cleanup(func() { _ = os.Chmod(filepath.Dir(path), 0o700) })
	r2 := open(t, path, Options{ReadOnly: true})
	if h := find(t, r2, Search{Wanted: wanted("host", "h60.example.com")}); h.Total != 1 {
		t.Error(brief(h))
	}
}

func TestTwoProcessesRecordAtOnce(t *testing.T) {
	path := newPath(t)
	a, b := start(t, "sight", path, "1"), start(t, "sight", path, "100001")
	deadline := time.Now().Add(20 * time.Second)
	n := 0
	for ; n < 150 && time.Now().Before(deadline); n++ {
		a.line()
		b.line()
	}
	a.kill()
	b.kill()
	l := open(t, path, Options{})
	h := find(t, l, Search{Wanted: wanted("host", "everywhere.example.com"), Limit: MaxHits})
	if h.Total < int64(2*n-2) || int64(len(h.Hits)) != h.Total {
		t.Errorf("%d hits, %d counted, %d acknowledged", len(h.Hits), h.Total, 2*n-2)
	}
	checkSegments(t, l)
}

// A full walk over broken blocks must end, without a panic.
func FuzzBlocks(f *testing.F) {
	w := &blockWriter{low: 1, put: func(_ key, _ int, raw []byte) error { f.Add(bytes.Clone(raw)); return nil }}
	for _, k := range []string{"\x02com.example", "\x02com.example.www", "\x02org.example"} {
		for seq := int64(1); seq < 4; seq++ {
			ok(f, w.add(key(k), posting{seq: seq, frame: 1 << seq, count: 1, role: 7, first: 1000, span: 3}))
		}
	}
	ok(f, w.end())
	ok(f, w.flush())
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Fuzz(func(t *testing.T, raw []byte) {
		r := blockReader{rest: raw}
		for n := 0; ; n++ {
			e, more, err := r.next()
			if err != nil && !isDamage(err) {
				t.Fatal(err)
			}
			if err != nil || !more {
				return
			}
			if n > len(raw) {
				t.Fatal("it does not end")
			}
			postings := 0
			err = e.each(1, func(p posting) { postings++ })
			if err != nil && !isDamage(err) || err == nil && postings != e.count {
				t.Fatal(err, postings, e.count)
			}
			if _, _, err := indicatorOf(e.key); err != nil && !isDamage(err) {
				t.Fatal(err)
			}
		}
	})
}
