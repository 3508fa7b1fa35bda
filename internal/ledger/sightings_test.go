package ledger

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

var sightedAt = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func sighting(typ, value string, frame, count int64) Sighting {
	return Sighting{
		Type: typ, Value: value, Role: 1 << 22, FirstFrame: frame, Count: count,
		First: sightedAt.Add(time.Duration(frame) * time.Millisecond), Last: sightedAt.Add(time.Duration(frame+count) * time.Millisecond),
	}
}

func sight(t testing.TB, l *Ledger, capture int64, s ...Sighting) {
	t.Helper()
	ok(t, l.Sight(t.Context(), capture, s))
}

func find(t testing.TB, l *Ledger, s Search) Hits {
	t.Helper()
	s.Limit = cmp.Or(s.Limit, 100)
	h, err := l.Find(t.Context(), s)
	ok(t, err)
	return h
}

func wanted(typ, value string) []Wanted { return []Wanted{{Type: typ, Value: value}} }

// brief is a page of hits for comparison: capture and value.
func brief(h Hits) string {
	var b strings.Builder
	for _, one := range h.Hits {
		fmt.Fprintf(&b, "%d %s\n", one.Capture, one.Value)
	}
	fmt.Fprintf(&b, "%d %v\n", h.Total, h.More)
	return b.String()
}

func TestSightingsAreReadBackAsTheyWere(t *testing.T) {
	l := open(t, newPath(t), Options{})
	all := []Sighting{
		sighting("address", "192.0.2.1", 9, 3),
		sighting("address", "2001:db8::1", 10, 1),
		sighting("address", "not an address", 11, 1),
		sighting("host", "www.example.com", 1, 1),
		sighting("host", `a\032b..`, 2, 1),
		sighting("url", "http://example.com/"+strings.Repeat("x", 8000), 4, 1),
		sighting("file", "d41d8cd98f00b204e9800998ecf8427e", 7, 1),
		sighting("file", "no digest", 8, 1),
		sighting("email", "Joe@example.com", 5, 1<<40),
		sighting("certificate", "da39a3ee5e6b4b0d3255bfef95601890afd80709", 3, 1),
		sighting("ja3", "ABCD", 6, 1),
		sighting("ja4", "t13d1516h2_8daaf6152771_b186095e22b6", 6, 1),
		sighting("user_agent", "\x00\xff", 6, 1),
		sighting("local_host", "printer.local", 6, 1),
	}
	given := slices.Clone(all)
	rand.Shuffle(len(given), func(i, k int) { given[i], given[k] = given[k], given[i] })
	sight(t, l, 7, given...)
	got, err := l.Sightings(t.Context(), 7)
	ok(t, err)
	slices.SortStableFunc(all, func(a, b Sighting) int {
		n := func(s Sighting) int { return slices.Index(sightingTypes, s.Type) }
		return cmp.Or(cmp.Compare(n(a), n(b)), cmp.Compare(a.FirstFrame, b.FirstFrame), cmp.Compare(a.Value, b.Value))
	})
	same(t, got, all)
	for _, s := range all {
		h := find(t, l, Search{Wanted: wanted(s.Type, s.Value)})
		if len(h.Hits) != 1 || h.Total != 1 || h.More || h.Hits[0].Capture != 7 {
			t.Fatalf("%s %q: %+v", s.Type, s.Value, h)
		}
		same(t, h.Hits[0].Sighting, s)
	}
	same(t, brief(find(t, l, Search{Wanted: wanted("host", "example.com")})), "0 false\n")
}

// hasty lets the store not wait for the disk.
func hasty(t testing.TB, l *Ledger) {
	t.Helper()
	ok(t, l.withSightings(t.Context(), func(s *sightStore) error {
		_, err := s.w.ExecContext(t.Context(), `PRAGMA synchronous = OFF`)
		return err
	}))
}

// many records what n captures hold: one value in all, one in every tenth, one in
// one, and an address that changes.
func many(t testing.TB, l *Ledger, from, to int64) {
	t.Helper()
	hasty(t, l)
	for id := from; id <= to; id++ {
		s := []Sighting{
			sighting("host", "everywhere.example.com", id, 1),
			sighting("host", fmt.Sprintf("h%d.example.org", id), 2, 1),
			sighting("address", fmt.Sprintf("10.0.%d.%d", id/250%250, id%250), 3, 1),
			sighting("url", fmt.Sprintf("http://e.example/%d", id%100), 1, 1),
		}
		if id%10 == 0 {
			s = append(s, sighting("host", "tenth.example.com", 4, 1))
		}
		for i := range s {
			s[i].First = s[i].First.Add(time.Duration(id) * time.Minute)
			s[i].Last = s[i].Last.Add(time.Duration(id) * time.Minute)
		}
		sight(t, l, id, s...)
	}
}

func TestFindReturnsTheNewestFirstAndCountsAll(t *testing.T) {
	l := open(t, newPath(t), Options{})
	const n = 2000
	many(t, l, 1, n)
	h := find(t, l, Search{Wanted: wanted("host", "everywhere.example.com"), Limit: 3})
	same(t, brief(h), fmt.Sprintf("%d everywhere.example.com\n%d everywhere.example.com\n%d everywhere.example.com\n%d false\n", n, n-1, n-2, n))
	if got := h.Hits[0]; got.FirstFrame != n || !got.First.Equal(sightedAt.Add(n*time.Millisecond+n*time.Minute)) {
		t.Errorf("%+v", got)
	}
	same(t, brief(find(t, l, Search{Wanted: wanted("host", "h1.example.org")})), "1 h1.example.org\n1 false\n")
	same(t, brief(find(t, l, Search{Wanted: wanted("host", "absent.example.org")})), "0 false\n")
	// Pages are the whole, without a gap.
	var ids []int64
	for s := (Search{Wanted: wanted("host", "tenth.example.com"), Limit: 7}); ; {
		h := find(t, l, s)
		if h.Total != n/10 {
			t.Fatalf("total %d", h.Total)
		}
		for _, one := range h.Hits {
			ids = append(ids, one.Capture)
		}
		if len(h.Hits) < s.Limit {
			break
		}
		s.After = &h.Hits[len(h.Hits)-1]
	}
	var want []int64
	for id := int64(n); id > 0; id -= 10 {
		want = append(want, id)
	}
	same(t, ids, want)
	checkSegments(t, l)
}

// checkSegments sees that segments are few, and that their blocks and keys belong
// together.
func checkSegments(t testing.TB, l *Ledger) {
	t.Helper()
	ok(t, l.withSightings(t.Context(), func(s *sightStore) error {
		for query, want := range map[string]string{
			`PRAGMA integrity_check`:                                                   "ok",
			`SELECT count(*) > 120 FROM segments WHERE state <> 'dead'`:                "0",
			`SELECT count(*) FROM keys WHERE segment NOT IN (SELECT id FROM segments)`: "0",
			`SELECT (SELECT count(*) FROM keys) - (SELECT count(*) FROM blocks0) - (SELECT count(*) FROM blocks1)
				- (SELECT count(*) FROM blocks2) - (SELECT count(*) FROM blocks3)`: "0",
		} {
			var got string
			if err := s.r.QueryRowContext(t.Context(), query).Scan(&got); err != nil || got != want {
				t.Errorf("%s: %s, %v", query, got, err)
			}
		}
		return nil
	}))
}

func TestFindBelow(t *testing.T) {
	l := open(t, newPath(t), Options{})
	hosts := []string{"example.com", "www.example.com", "a.b.example.com", "notexample.com", "example.com.evil.test"}
	addresses := []string{"10.1.0.0", "10.1.255.255", "10.2.0.0", "10.0.255.255", "2001:db8::1", "2001:db8:ffff::", "2001:db9::"}
	for i := range max(len(hosts), len(addresses)) {
		var s []Sighting
		if i < len(hosts) {
			s = append(s, sighting("host", hosts[i], 1, 1))
		}
		if i < len(addresses) {
			s = append(s, sighting("address", addresses[i], 1, 1))
		}
		sight(t, l, int64(i+1), s...)
	}
	below := func(typ, value string) string {
		return brief(find(t, l, Search{Wanted: []Wanted{{typ, value, true}}}))
	}
	same(t, below("host", "example.com"), "3 a.b.example.com\n2 www.example.com\n2 false\n")
	same(t, below("address", "10.1.0.0/16"), "2 10.1.255.255\n1 10.1.0.0\n2 false\n")
	same(t, below("address", "10.0.0.0/8"), "4 10.0.255.255\n3 10.2.0.0\n2 10.1.255.255\n1 10.1.0.0\n4 false\n")
	same(t, below("address", "0.0.0.0/0"), "4 10.0.255.255\n3 10.2.0.0\n2 10.1.255.255\n1 10.1.0.0\n4 false\n")
	same(t, below("address", "2001:db8::/32"), "6 2001:db8:ffff::\n5 2001:db8::1\n2 false\n")
	same(t, below("address", "10.2.0.0/32"), "3 10.2.0.0\n1 false\n")
	if _, err := l.Find(t.Context(), Search{Wanted: []Wanted{{"url", "http://x/", true}}, Limit: 1}); err == nil {
		t.Error("below a URL")
	}
}

func TestSightingsAreReplaced(t *testing.T) {
	l := open(t, newPath(t), Options{})
	many(t, l, 1, 100)
	sight(t, l, 50, sighting("host", "other.example.com", 1, 1))
	sight(t, l, 51)
	many(t, l, 101, 700)
	check := func() {
		t.Helper()
		h := find(t, l, Search{Wanted: wanted("host", "everywhere.example.com"), Limit: 1000})
		if len(h.Hits) != 698 || h.Total != 698 {
			t.Errorf("%d of %d hits", len(h.Hits), h.Total)
		}
		if h := find(t, l, Search{Wanted: wanted("host", "everywhere.example.com"), Limit: 1}); h.Total != 698 {
			t.Errorf("%d hits", h.Total)
		}
		same(t, brief(find(t, l, Search{Wanted: wanted("host", "h50.example.org")})), "0 false\n")
		same(t, brief(find(t, l, Search{Wanted: wanted("host", "other.example.com")})), "50 other.example.com\n1 false\n")
		for id, want := range map[int64]int{50: 1, 51: 0, 52: 4, 1: 4, 10: 5, 99999: 0} {
			s, err := l.Sightings(t.Context(), id)
			if err != nil || len(s) != want {
				t.Errorf("capture %d: %d sightings, %v", id, len(s), err)
			}
		}
	}
	check()
	many(t, l, 701, 2000)
	for id := int64(701); id <= 2000; id++ {
		sight(t, l, id)
	}
	check()
}

func TestSinceIsTheTimeOfTheSighting(t *testing.T) {
	l := open(t, newPath(t), Options{})
	many(t, l, 1, 100)
	since := sightedAt.Add(98*time.Minute + 50*time.Millisecond)
	h := find(t, l, Search{Wanted: wanted("host", "everywhere.example.com"), Since: since})
	if len(h.Hits) != 3 || h.Hits[2].Capture != 98 {
		t.Error(brief(h))
	}
	// Capture 98 is in the window, but not with what it has in its first frames.
	h = find(t, l, Search{Wanted: []Wanted{{"host", "example.org", true}}, Since: since})
	if len(h.Hits) != 2 || h.Hits[1].Capture != 99 {
		t.Error(brief(h))
	}
	h = find(t, l, Search{Wanted: wanted("host", "everywhere.example.com"), Since: sightedAt, Limit: 3})
	if len(h.Hits) != 3 || !h.More {
		t.Error(brief(h))
	}
}

func TestIndicatorsAreEachValueOnceWithItsNewestCapture(t *testing.T) {
	l := open(t, newPath(t), Options{})
	many(t, l, 1, 700)
	sight(t, l, 700) // h700 and its address are gone
	got := map[string]Seen{}
	n := 0
	for after := []byte(nil); ; {
		all, next, err := l.Indicators(t.Context(), after, 100)
		ok(t, err)
		for _, s := range all {
			got[s.Newest.Type+" "+s.Newest.Value] = s
			n++
		}
		if after = next; after == nil {
			break
		}
	}
	if want := 699 + 699 + 100 + 2; n != want || len(got) != want {
		t.Errorf("%d indicators, %d of them distinct, want %d", n, len(got), want)
	}
	for value, want := range map[string][2]int64{
		"host everywhere.example.com": {699, 699}, "host tenth.example.com": {69, 690}, "host h3.example.org": {1, 3},
		"url http://e.example/7": {7, 607},
	} {
		if s := got[value]; s.Captures != want[0] || s.Newest.Capture != want[1] {
			t.Errorf("%s: %+v", value, s)
		}
	}
}

func TestWhatIsNoSightingIsRefused(t *testing.T) {
	l := open(t, newPath(t), Options{})
	good := sighting("host", "a.example", 1, 1)
	for name, change := range map[string]func(*Sighting){
		"type":     func(s *Sighting) { s.Type = "nonsense" },
		"empty":    func(s *Sighting) { s.Value = "" },
		"long":     func(s *Sighting) { s.Value = strings.Repeat("x", maxSighted+1) },
		"frame":    func(s *Sighting) { s.FirstFrame = -1 },
		"count":    func(s *Sighting) { s.Count = -1 },
		"no time":  func(s *Sighting) { s.First = time.Time{} },
		"backward": func(s *Sighting) { s.Last = s.First.Add(-1) },
	} {
		bad := good
		change(&bad)
		if err := l.Sight(t.Context(), 1, []Sighting{bad}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if err := l.Sight(t.Context(), 1, []Sighting{good, good}); err == nil {
		t.Error("twice the same: no error")
	}
	if err := l.Sight(t.Context(), 0, []Sighting{good}); err == nil {
		t.Error("no capture: no error")
	}
	got, err := l.Sightings(t.Context(), 1)
	if err != nil || len(got) != 0 {
		t.Errorf("%v, %v", got, err)
	}
	far := good
	far.First, far.Last = earliest, latest
	sight(t, l, 2, far, sighting("host", "b.example", 1, 1))
	h := find(t, l, Search{Wanted: wanted("host", "b.example")})
	if got, want := h.Hits[0].First, sightedAt.Add(time.Millisecond); got.Sub(want).Abs() > time.Millisecond {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestPruningForgetsTheOldest(t *testing.T) {
	l := open(t, newPath(t), Options{})
	many(t, l, 1, 2000)
	done, err := l.PruneSightings(t.Context(), Keep{Since: sightedAt.Add(1500*time.Minute + time.Millisecond)})
	ok(t, err)
	if done.Captures != 1499 || done.Size == 0 {
		t.Errorf("%+v", done)
	}
	h := find(t, l, Search{Wanted: wanted("host", "everywhere.example.com"), Limit: 1000})
	if len(h.Hits) != 501 || h.Total != 501 {
		t.Errorf("%d of %d", len(h.Hits), h.Total)
	}
	same(t, brief(find(t, l, Search{Wanted: wanted("host", "h1.example.org")})), "0 false\n")
	checkSegments(t, l)
	before := done.Size
	many(t, l, 2001, 4000)
	done, err = l.PruneSightings(t.Context(), Keep{MaxSize: before})
	ok(t, err)
	if done.Size > before || done.Captures == 0 {
		t.Errorf("%+v of %d", done, before)
	}
	h = find(t, l, Search{Wanted: wanted("host", "everywhere.example.com"), Limit: 4000})
	if int64(len(h.Hits)) != h.Total || h.Total == 0 || h.Hits[0].Capture != 4000 {
		t.Errorf("%d of %d", len(h.Hits), h.Total)
	}
	checkSegments(t, l)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.PruneSightings(ctx, Keep{MaxSize: 1}); err == nil {
		t.Error("it went on")
	}
	// All of it: what is left is the last segment.
	_, err = l.PruneSightings(t.Context(), Keep{Since: sightedAt.Add(9000 * time.Minute)})
	ok(t, err)
	same(t, brief(find(t, l, Search{Wanted: wanted("host", "everywhere.example.com")})), "0 false\n")
	many(t, l, 1, 100)
	if h := find(t, l, Search{Wanted: wanted("host", "everywhere.example.com")}); h.Total != 100 {
		t.Error(brief(h))
	}
	checkSegments(t, l)
}

// Captures that hold so much that segments are merged in many slices.
func TestMergingInSlicesKeepsEverySightingOnce(t *testing.T) {
	l := open(t, newPath(t), Options{})
	hasty(t, l)
	const captures, each = 160, 300
	sliced := 0
	for id := int64(1); id <= captures; id++ {
		var all []Sighting
		for i := range int64(each) {
			all = append(all, sighting("url", fmt.Sprintf("http://e.example/%d", id%7*100+i), i+1, 1))
		}
		sight(t, l, id, all...)
		ok(t, l.withSightings(t.Context(), func(s *sightStore) error {
			var under int
			err := s.r.QueryRowContext(t.Context(), `SELECT count(*) FROM segments WHERE state = 'building' AND upto IS NOT NULL`).Scan(&under)
			sliced += under
			return err
		}))
	}
	if sliced == 0 {
		t.Error("no merge was cut: the test does not test what it should")
	}
	var sum int64
	for after := []byte(nil); ; {
		all, next, err := l.Indicators(t.Context(), after, 500)
		ok(t, err)
		for _, s := range all {
			sum += s.Captures
		}
		if after = next; after == nil {
			break
		}
	}
	if sum != captures*each {
		t.Errorf("%d sightings, want %d", sum, captures*each)
	}
	for id := int64(1); id <= captures; id += 13 {
		s, err := l.Sightings(t.Context(), id)
		if err != nil || len(s) != each {
			t.Errorf("capture %d: %d sightings, %v", id, len(s), err)
		}
	}
	checkSegments(t, l)
}
