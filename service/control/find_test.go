package control_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"capagent/internal/ledger"
	"capagent/service"
	"capagent/service/control"
)

func TestFindIsWhatTheLedgerSays(t *testing.T) {
	each(t, 14, func(t *testing.T, r *running, c *control.Client) {
		at := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
		for id := range int64(14) {
			err := r.ledger.Sight(t.Context(), id+1, []ledger.Sighting{
				{Type: "host", Value: "www.example.com", Role: 1 << 3, FirstFrame: 7, Count: 2, First: at, Last: at.AddDate(0, 0, int(id))},
				{Type: "user_agent", Value: "a&b=c\n\xff", FirstFrame: id, Count: 1, First: at, Last: at},
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		for _, s := range []ledger.Search{
			{Wanted: []ledger.Wanted{{Type: "host", Value: "www.example.com"}}, Limit: 100},
			{Wanted: []ledger.Wanted{{Type: "host", Value: "www.example.com"}}, Limit: 3},
			{Wanted: []ledger.Wanted{{Type: "host", Value: "com", Below: true}, {Type: "user_agent", Value: "a&b=c\n\xff"}}, Limit: 9},
			{Wanted: []ledger.Wanted{{Type: "host", Value: "www.example.com"}}, Limit: 100, Since: at.AddDate(0, 0, 10)},
			{Wanted: []ledger.Wanted{{Type: "host", Value: "absent.example.com"}}, Limit: 1},
		} {
			var want, got []service.HitView
			wantResult, err := service.Find(t.Context(), r.ledger, s, func(v service.HitView) error { want = append(want, v); return nil })
			if err != nil {
				t.Fatal(err)
			}
			result, err := c.Find(t.Context(), s, func(v service.HitView) error { got = append(got, v); return nil })
			for i := range want { // as text goes over the wire
				want[i].Indicator = strings.ToValidUTF8(want[i].Indicator, "\ufffd")
			}
			if diff := cmp.Diff(want, got); err != nil || diff != "" || result != wantResult {
				t.Errorf("%+v: %v, %+v for %+v\n%s", s, err, result, wantResult, diff)
			}
		}
		for _, s := range []ledger.Search{
			{Limit: 1},
			{Wanted: []ledger.Wanted{{Type: "host", Value: "a"}}},
			{Wanted: []ledger.Wanted{{Type: "host", Value: "a"}}, Limit: ledger.MaxHits + 1},
			{Wanted: make([]ledger.Wanted, 17), Limit: 1},
			{Wanted: []ledger.Wanted{{Type: "nonsense", Value: "a"}}, Limit: 1},
			{Wanted: []ledger.Wanted{{Type: "host", Value: strings.Repeat("x", 9000)}}, Limit: 1},
		} {
			if _, err := c.Find(t.Context(), s, func(service.HitView) error { return nil }); err == nil {
				t.Errorf("%.200v: no error", s)
			}
		}
	})
}
