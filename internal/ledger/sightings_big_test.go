package ledger

import (
	"encoding/binary"
	"encoding/hex"
	"flag"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

var (
	bigSightings = flag.Int("sightings", 0, "captures of the store that TestALargeStoreOfSightings makes and measures")
	bigDir       = flag.String("sightings.dir", "", "where it makes it, and finds it again")
)

// world draws indicators as captures of one site hold them: most of what is seen is
// what is always seen, and some is seen once.
type world struct {
	rng  *rand.Rand
	zipf map[string]*rand.Zipf
}

// kinds are how many indicators of a kind a capture of 1000 has, out of how many,
// and how many of a hundred are seen in no other capture.
var kinds = []struct {
	typ          string
	count, of    int
	once, binary int
	text         string
}{
	{"address", 320, 3_000_000, 3, 0, ""},
	{"host", 300, 1_000_000, 5, 0, "%s.cdn%d.example.com"},
	{"url", 130, 500_000, 50, 0, "http://%s.example.net/assets/%d/index.html?session=%s"},
	{"file", 120, 400_000, 30, 32, ""},
	{"email", 20, 50_000, 10, 0, "%s.%d@example.org"},
	{"certificate", 40, 100_000, 2, 20, ""},
	{"ja3", 15, 5_000, 0, 16, ""},
	{"ja4", 15, 5_000, 0, 0, "t13d15%s_%d"},
	{"user_agent", 40, 20_000, 1, 0, "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/%s (KHTML, like Gecko) Chrome/%d.0"},
}

func newWorld(seed uint64) *world {
	w := &world{rng: rand.New(rand.NewPCG(seed, 1)), zipf: map[string]*rand.Zipf{}}
	for _, k := range kinds {
		w.zipf[k.typ] = rand.NewZipf(w.rng, 1.2, 20, uint64(k.of-1))
	}
	return w
}

// value is the n-th value of a kind.
func value(typ, text string, size int, n uint64) string {
	var raw [32]byte
	for i := 0; i < len(raw); i += 8 {
		binary.BigEndian.PutUint64(raw[i:], (n+1)*0x9e3779b97f4a7c15*uint64(i+1)^n<<17)
	}
	word := hex.EncodeToString(raw[:])
	switch {
	case typ == "address":
		return fmt.Sprintf("%d.%d.%d.%d", 1+raw[0]%223, raw[1], raw[2], raw[3])
	case typ == "url":
		return fmt.Sprintf(text, word[:4], n, word[8:24])
	case size > 0:
		return word[:2*size]
	}
	return fmt.Sprintf(text, word[:7], n)
}

// capture returns what capture id holds, 1000 indicators or slightly fewer.
func (w *world) capture(id int64) []Sighting {
	all := make([]Sighting, 0, 1000)
	begin := sightedAt.Add(time.Duration(id) * 30 * time.Second)
	for number, k := range kinds {
		known := map[string]bool{}
		for i := range k.count {
			n := w.zipf[k.typ].Uint64()
			if w.rng.IntN(100) < k.once {
				n = uint64(k.of) + uint64(id)*1000 + uint64(i)
			}
			v := value(k.typ, k.text, k.binary, n)
			for known[v] {
				n = w.zipf[k.typ].Uint64() + uint64(w.rng.IntN(k.of))
				v = value(k.typ, k.text, k.binary, n)
			}
			known[v] = true
			frame, count := 1+w.rng.Int64N(100_000), int64(1)
			if w.rng.IntN(3) == 0 {
				count += int64(w.rng.ExpFloat64() * 50)
			}
			first := begin.Add(time.Duration(frame) * 300 * time.Microsecond)
			last := first
			if count > 1 {
				last = first.Add(time.Duration(w.rng.Int64N(max(1, int64(begin.Add(30*time.Second).Sub(first))))))
			}
			all = append(all, Sighting{
				Type: k.typ, Value: v, Role: 1 << number, FirstFrame: frame, Count: count, First: first, Last: last,
			})
		}
	}
	return all
}

func TestALargeStoreOfSightings(t *testing.T) {
	if *bigSightings == 0 {
		t.Skip("-sightings 100000 measures; some ten minutes and 1 GB")
	}
	dir := *bigDir
	if dir == "" {
		dir = t.TempDir()
	}
	l := open(t, filepath.Join(dir, "ledger.db"), Options{})
	hasty(t, l)
	var have int64
	ok(t, l.withSightings(t.Context(), func(s *sightStore) error {
		return s.r.QueryRowContext(t.Context(), `SELECT coalesce(max(capture), 0) FROM sights`).Scan(&have)
	}))
	w := newWorld(uint64(have))
	var took []time.Duration
	begin := time.Now()
	for id := have + 1; id <= int64(*bigSightings); id++ {
		s := w.capture(id)
		now := time.Now()
		sight(t, l, id, s...)
		took = append(took, time.Since(now))
		if id%10000 == 0 {
			t.Logf("%d captures, %s", id, storeSize(t, l))
		}
	}
	if n := len(took); n > 0 {
		slices.Sort(took)
		t.Logf("%d recorded in %v; each %v, 99 of 100 %v, at most %v", n, time.Since(begin), took[n/2], took[n*99/100], took[n-1])
	}
	t.Log(storeSize(t, l))
	ok(t, l.Close())
	for _, drop := range []bool{true, false} {
		for _, q := range []struct {
			name string
			Search
		}{
			{"most frequent", Search{Wanted: []Wanted{{"host", value("host", kinds[1].text, 0, 0), false}}}},
			{"frequent", Search{Wanted: []Wanted{{"host", value("host", kinds[1].text, 0, 1000), false}}}},
			{"rare", Search{Wanted: []Wanted{{"host", value("host", kinds[1].text, 0, 900_000), false}}}},
			{"once", Search{Wanted: []Wanted{{"url", value("url", kinds[2].text, 0, 500_000+5000*1000+1), false}}}},
			{"absent address", Search{Wanted: []Wanted{{"address", "192.0.2.77", false}}}},
			{"absent digest", Search{Wanted: []Wanted{{"file", hex.EncodeToString(make([]byte, 32)), false}}}},
			{"domain", Search{Wanted: []Wanted{{"host", "cdn77.example.com", true}}}},
			{"/16", Search{Wanted: []Wanted{{"address", "17.3.0.0/16", true}}}},
		} {
			measureFind(t, l.path, drop, q.name, q.Search)
		}
	}
	l = open(t, l.path, Options{ReadOnly: true})
	for _, id := range []int64{int64(*bigSightings), int64(*bigSightings) / 2, 1} {
		now := time.Now()
		s, err := l.Sightings(t.Context(), id)
		ok(t, err)
		t.Logf("sightings of capture %d: %d in %v", id, len(s), time.Since(now))
	}
	now := time.Now()
	_, next, err := l.Indicators(t.Context(), nil, 10_000)
	ok(t, err)
	first := time.Since(now)
	now = time.Now()
	_, _, err = l.Indicators(t.Context(), next, 10_000)
	ok(t, err)
	t.Logf("10,000 indicators in %v, the next in %v", first, time.Since(now))
}

func measureFind(t *testing.T, path string, drop bool, name string, s Search) {
	t.Helper()
	s.Limit = 100
	if drop {
		// Only this file's pages leave the memory.
		store := filepath.Join(filepath.Dir(path), "sightings.db")
		if out, err := exec.Command("dd", "if="+store, "iflag=nocache", "count=0").CombinedOutput(); err != nil {
			t.Logf("not cold: %v %s", err, out)
		}
	}
	l := open(t, path, Options{ReadOnly: true})
	now := time.Now()
	h := find(t, l, s)
	first := time.Since(now)
	best := time.Hour
	if !drop {
		for range 5 {
			now = time.Now()
			h = find(t, l, s)
			best = min(best, time.Since(now))
		}
		t.Logf("warm %-15s %8d of %8d (more: %v) in %v, again in %v", name, len(h.Hits), h.Total, h.More, first, best)
		return
	}
	t.Logf("cold %-15s %8d of %8d (more: %v) in %v", name, len(h.Hits), h.Total, h.More, first)
}

func storeSize(t *testing.T, l *Ledger) string {
	t.Helper()
	var text string
	ok(t, l.withSightings(t.Context(), func(s *sightStore) error {
		used, free, err := s.size(t.Context(), s.r)
		if err != nil {
			return err
		}
		var sightings, segments int64
		err = s.r.QueryRowContext(t.Context(), `SELECT (SELECT sum(count) FROM sights), (SELECT count(*) FROM segments WHERE state = 'ready')`).Scan(&sightings, &segments)
		text = fmt.Sprintf("%d MB used, %d MB free, %d sightings of %.2f bytes, %d segments", used>>20, free>>20, sightings, float64(used)/float64(sightings), segments)
		return err
	}))
	return text
}
