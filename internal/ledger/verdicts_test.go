package ledger

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

func answered(t testing.TB, l *Ledger, source string, answers ...Verdict) {
	t.Helper()
	ok(t, l.RememberVerdicts(t.Context(), source, answers, 24*time.Hour, time.Hour))
}

func recall(t testing.TB, l *Ledger, source string, keys ...VerdictKey) map[VerdictKey]Verdict {
	t.Helper()
	found, err := l.Verdicts(t.Context(), source, keys)
	ok(t, err)
	return found
}

var bad, clean = VerdictKey{"host", "bad.example"}, VerdictKey{"host", "clean.example"}

func TestVerdictsAreRememberedUntilTheyExpire(t *testing.T) {
	clk, path := newClock(), newPath(t)
	l := open(t, path, Options{Now: clk.Now})
	answered(t, l, "tc", Verdict{VerdictKey: bad, Answer: json.RawMessage(`[{"rating":4}]`), At: clk.now}, Verdict{VerdictKey: clean, At: clk.now})
	ok(t, l.Close())
	l = open(t, path, Options{Now: clk.Now})
	same(t, recall(t, l, "tc", bad, clean, VerdictKey{"url", "bad.example"}), map[VerdictKey]Verdict{
		bad:   {VerdictKey: bad, Source: "tc", Answer: json.RawMessage(`[{"rating":4}]`), At: clk.now, Expires: clk.now.Add(24 * time.Hour)},
		clean: {VerdictKey: clean, Source: "tc", At: clk.now, Expires: clk.now.Add(time.Hour)},
	})
	if len(recall(t, l, "other", bad, clean)) != 0 {
		t.Error("another source's answers")
	}
	clk.now = clk.now.Add(time.Hour)
	if found := recall(t, l, "tc", bad, clean); len(found) != 1 || found[bad].Answer == nil {
		t.Errorf("after an hour: %v", found)
	}
	clk.now = clk.now.Add(-2 * time.Hour) // set back: nobody knows how old they are
	if found := recall(t, l, "tc", bad, clean); len(found) != 0 {
		t.Errorf("from the future: %v", found)
	}
}

func TestOneBadAnswerDoesNotKeepTheOthersOut(t *testing.T) {
	l := open(t, newPath(t), Options{})
	big := VerdictKey{"url", "http://x.example/"}
	answers := []Verdict{
		{VerdictKey: bad, At: l.now()},
		{VerdictKey: big, Answer: json.RawMessage(`"` + strings.Repeat("x", MaxVerdictAnswer) + `"`), At: l.now()},
		{VerdictKey: VerdictKey{"nonsense", "x"}, At: l.now()},
		{VerdictKey: VerdictKey{"host", "broken.example"}, Answer: json.RawMessage(`[`), At: l.now()},
		{VerdictKey: clean, At: l.now()},
	}
	err := l.RememberVerdicts(t.Context(), "tc", answers, time.Hour, time.Hour)
	if err == nil || !strings.Contains(err.Error(), "3 of 5 are left out") || len(err.Error()) > 300 {
		t.Errorf("error %v", err)
	}
	if found := recall(t, l, "tc", bad, clean, big); len(found) != 2 {
		t.Errorf("found %v", found)
	}
	ok(t, l.RememberVerdicts(t.Context(), "none", answers[:1], time.Hour, 0))
	if len(recall(t, l, "none", bad)) != 0 {
		t.Error("remembered for no time")
	}
}

func TestVerdictsAreListedAndForgotten(t *testing.T) {
	clk := newClock()
	l := open(t, newPath(t), Options{Now: clk.Now})
	for i := range 2*pageSize + 1 {
		answered(t, l, "tc", Verdict{VerdictKey: VerdictKey{"host", fmt.Sprintf("h%d.example", i)}, At: clk.now})
	}
	answered(t, l, "list", Verdict{VerdictKey: bad, Answer: json.RawMessage(`[1]`), At: clk.now})
	count := func(f VerdictFilter) (values []string) {
		for v, err := range l.ListVerdicts(t.Context(), f) {
			ok(t, err)
			values = append(values, v.Value)
		}
		return values
	}
	all := count(VerdictFilter{})
	if len(all) != 2*pageSize+2 || all[0] != "bad.example" || all[1] != "h1000.example" || all[len(all)-1] != "h0.example" {
		t.Errorf("%d, from %s to %s", len(all), all[0], all[len(all)-1])
	}
	same(t, count(VerdictFilter{Known: true}), []string{"bad.example"})
	same(t, count(VerdictFilter{Value: "h7.example", Type: "host"}), []string{"h7.example"})
	same(t, count(VerdictFilter{Source: "tc", Limit: 2}), []string{"h1000.example", "h999.example"})
	clk.now = clk.now.Add(2 * time.Hour)
	if n := len(count(VerdictFilter{Expired: true})); n != 2*pageSize+1 {
		t.Errorf("%d expired", n)
	}
	for _, step := range []struct {
		filter VerdictFilter
		want   int64
	}{{VerdictFilter{Value: "h7.example"}, 1}, {VerdictFilter{Expired: true}, 2 * pageSize}, {VerdictFilter{}, 1}, {VerdictFilter{}, 0}} {
		n, err := l.ForgetVerdicts(t.Context(), step.filter)
		if ok(t, err); n != step.want {
			t.Errorf("%+v: %d forgotten, want %d", step.filter, n, step.want)
		}
	}
}

func manyKeys(from, n int) []VerdictKey {
	keys := make([]VerdictKey, n)
	for i := range keys {
		keys[i] = VerdictKey{"host", fmt.Sprintf("host-number-%d.some-domain.example", from+i)}
	}
	return keys
}

func rememberMany(t testing.TB, l *Ledger, keys []VerdictKey) {
	t.Helper()
	answers := make([]Verdict, len(keys))
	for i, k := range keys {
		answers[i] = Verdict{VerdictKey: k, At: l.now()}
	}
	answered(t, l, "tc", answers...)
}

func TestTheOldestVerdictsGo(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 101,000 rows")
	}
	l := open(t, newPath(t), Options{})
	keys := manyKeys(0, MaxVerdicts+1000)
	rememberMany(t, l, keys[:1000])
	rememberMany(t, l, keys[1000:MaxVerdicts])
	rememberMany(t, l, keys[:10]) // asked again: these are new
	rememberMany(t, l, keys[MaxVerdicts:])
	found := recall(t, l, "tc", keys...)
	if len(found) != MaxVerdicts {
		t.Errorf("%d are kept", len(found))
	}
	for _, k := range append(keys[:10:10], keys[1010:]...) {
		if _, there := found[k]; !there {
			t.Fatalf("%s is gone", k.Value)
		}
	}
}

func BenchmarkVerdicts(b *testing.B) {
	l := open(b, newPath(b), Options{})
	keys := manyKeys(0, 100_000)
	rememberMany(b, l, keys)
	b.Run("read 10000", func(b *testing.B) {
		for b.Loop() {
			if len(recall(b, l, "tc", keys[40_000:50_000]...)) != 10_000 {
				b.Fatal("missing")
			}
		}
	})
	b.Run("remember 1000", func(b *testing.B) {
		for b.Loop() {
			rememberMany(b, l, keys[:1000])
		}
	})
}
