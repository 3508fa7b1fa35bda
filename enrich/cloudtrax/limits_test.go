package cloudtrax

import (
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"capagent/enrich/cloudtrax/api"
	"capagent/internal/httpx"
	"capagent/internal/race"
	"capagent/internal/secret"
)

// canned answers everything with the same.
type canned string

func (c canned) Do(*http.Request) (*httpx.Reply, error) {
	return &httpx.Reply{Status: 200, Header: http.Header{}, Body: []byte(c)}, nil
}

// TestMemoryOfHostileReplies holds that a reply costs a few times its bytes, whatever
// is in it, and that little of it stays.
func TestMemoryOfHostileReplies(t *testing.T) {
	if race.Enabled {
		t.Skip("minutes of hostile JSON; `make test` runs it without the detector")
	}
	fill := func(piece string) string { return strings.Repeat(piece, (api.MaxReply-1000)/len(piece)) }
	var many strings.Builder
	for i := range 60_000 {
		fmt.Fprintf(&many, `"00:10:%02x:%02x:%02x:01":{"name":"x","last_name":"%s","last_seen":"2026-01-01T00:00:00Z"},`, i>>16, i>>8&255, i&255, strings.Repeat("n", 180))
	}
	id, _ := api.ParseID("1")
	for name, test := range map[string]struct {
		body  string
		kinds []kind
	}{
		"members":          {`{` + fill(`"a":1,`) + `"b":1}`, []kind{networks, clients, nodes, settings, switches, survey}},
		"empty objects":    {`[` + fill(`{},`) + `{}]`, []kind{clients}},
		"objects in each":  {`{"clients":[` + fill(`{},`) + `{}],"nodes":[` + `{}]}`, []kind{clients, nodes}},
		"nodes":            {`{"nodes":{` + fill(`"1":{},`) + `"1":{}}}`, []kind{nodes, clients}},
		"networks":         {`{"networks":[` + fill(`{"id":1},`) + `{}]}`, []kind{networks}},
		"ports":            {`{"switches":[{"id":1,"summary_info":{"mac":"00:10:00:00:00:01"}}],"ports":[{"id":1,"connected_device_mac_list":[` + fill(`"00:10:00:00:00:02",`) + `0]}]}`, []kind{switches}},
		"survey":           {`{"access_points":[{"bssid":"00:10:00:00:00:02","seen_by_node":[` + fill(`{"name":"x"},`) + `0]}]}`, []kind{survey}},
		"ssids":            {`{"ssids":{` + fill(`"1":{},`) + `"1":{}}}`, []kind{settings}},
		"one name":         {`{"00:10:00:00:00:01":{"name":"` + fill("x") + `"}}`, []kind{clients}},
		"traffic":          {`{"00:10:00:00:00:01":{"traffic":{` + fill(`"ssid1":1,`) + `"ssid1":1}}}`, []kind{clients}},
		"errors":           {`{"errors":[` + fill(`{},`) + `{}]}`, []kind{nodes}},
		"a long message":   {`{"errors":[{"code":1000,"message":"` + fill("ab") + `"}]}`, []kind{nodes}},
		"clients for real": {`{` + many.String() + `"x":1}`, []kind{clients}},
		"lists in lists":   {strings.Repeat("[", 9000) + strings.Repeat("]", 9000), []kind{clients, nodes}},
		"too deep":         {strings.Repeat(`{"clients":`, 20000), []kind{clients}},
	} {
		t.Run(name, func(t *testing.T) {
			c := DefaultConfig()
			c.Key, c.Secret = "k", secret.New(testSecret)
			r := newReader(c, newAPI(c, canned(test.body), zerolog.Nop()), func() {})
			for _, k := range test.kinds {
				var before, after runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&before)
				began := time.Now()
				p, err := r.ask(t.Context(), jobKey{k, id})
				took := time.Since(began)
				runtime.ReadMemStats(&after)
				mb := (after.TotalAlloc - before.TotalAlloc) >> 20
				runtime.GC()
				runtime.ReadMemStats(&after)
				stays := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) >> 20
				if mb > 200 || stays > 20 {
					t.Errorf("%s: %d MiB in %s, %d MiB stay, %.200v", k, mb, took.Round(time.Millisecond), stays, err)
				}
				if k == test.kinds[0] {
					t.Logf("%s: %d MiB in %s, %d MiB stay, %.200v", k, mb, took.Round(time.Millisecond), stays, err)
				}
				if k == clients && p != nil && len(p.clients) > maxClients {
					t.Errorf("%d clients", len(p.clients))
				}
				runtime.KeepAlive(p)
			}
		})
	}
}
