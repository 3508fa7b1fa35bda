package threatconnect

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"capagent/enrich/indicator"
	"capagent/internal/race"
)

// TestMemoryOfHostilePages holds that a page costs a few times its bytes, whatever
// is in it.
func TestMemoryOfHostilePages(t *testing.T) {
	if race.Enabled {
		t.Skip("minutes of hostile JSON; `make test` runs it without the detector")
	}
	fill := func(piece string) string {
		return strings.Repeat(piece, (maxReply-1000)/len(piece))
	}
	queries := one(indicator.Host, "evil.example")
	for i := range 80 {
		queries = append(queries, one(indicator.Address, fmt.Sprintf("198.51.100.%d", i))...)
	}
	for name, body := range map[string]string{
		"empty objects":    `{"status":"Success","data":[` + fill(`{},`) + `{}]}`,
		"one item":         `{"status":"Success","data":[{"type":"Host","summary":"evil.example","description":"` + fill("x") + `"}]}`,
		"groups":           `{"status":"Success","data":[{"type":"Host","summary":"evil.example","associatedGroups":{"data":[` + fill(`{},`) + `{}]}}]}`,
		"blocks":           `{"status":"Success","data":[` + strings.Repeat(`{"type":"CIDR","block":"0.0.0.0/0","associatedGroups":[`+strings.Repeat(`{"type":"Threat"},`, 1700)+`{}]},`, 499) + `{}]}`,
		"members":          `{"status":"Success","data":{` + fill(`"a":1,`) + `"b":1}}`,
		"members of items": `{"status":"Success","data":[{` + fill(`"a":1,`) + `"b":1}]}`,
		"lists in lists":   `{"status":"Success","data":` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + `}`,
	} {
		t.Run(name, func(t *testing.T) {
			for _, version := range []int{3, 2} {
				r := newRig(t, func(c *Config) { c.APIVersion = version; c.Owners = []string{"A"} }, func(w http.ResponseWriter, _ *http.Request) {
					_, _ = w.Write([]byte(body))
				})
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				begun := time.Now()
				_, err := r.Look(context.Background(), queries)
				took := time.Since(begun)
				runtime.ReadMemStats(&after)
				// All that was ever allocated: more than is alive at one time.
				mb := (after.TotalAlloc - before.TotalAlloc) >> 20
				t.Logf("v%d: %d MiB in %s, %v", version, mb, took.Round(time.Millisecond), err)
				if mb > 400 {
					t.Errorf("v%d: %d MiB", version, mb)
				}
			}
		})
	}
}
