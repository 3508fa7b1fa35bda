package threatconnect_test

import (
	"fmt"
	"testing"

	"capagent/enrich/enrichtest"
	"capagent/enrich/indicator"
	"capagent/enrich/threatconnect"
	"capagent/enrich/threatconnecttest"
	"capagent/enrich/verdict"
)

// TestItKeepsToWhatIsAskedOfAllSources, by both of its APIs.
func TestItKeepsToWhatIsAskedOfAllSources(t *testing.T) {
	for _, version := range []int{3, 2} {
		t.Run(fmt.Sprintf("v%d", version), func(t *testing.T) {
			s := threatconnecttest.Start(t, threatconnecttest.Options{Tidy: true})
			known := []verdict.Query{
				{Type: indicator.Address, Value: "198.51.100.23"},
				{Type: indicator.Address, Value: "2001:db8::17"},
				{Type: indicator.Host, Value: "evil.example"},
				{Type: indicator.URL, Value: "http://evil.example/a?b=c"},
				{Type: indicator.Email, Value: "x@evil.example"},
				{Type: indicator.File, Value: "44d88612fea8a8f36de82e1278abb02f"},
			}
			owner := s.Owners()[0].Name
			for _, i := range []threatconnecttest.Indicator{
				{Type: "Address", Value: "198.51.100.23"},
				{Type: "Address", Value: "2001:db8:0:0:0:0:0:17"},
				{Type: "Host", Value: "evil.example"},
				{Type: "URL", Value: "http://evil.example/a?b=c"},
				{Type: "EmailAddress", Value: "x@evil.example"},
				{Type: "File", Value: "44D88612FEA8A8F36DE82E1278ABB02F"},
			} {
				i.Owner, i.Rating, i.Confidence = owner, 4, 80
				s.Add(i)
			}
			enrichtest.Source(t, enrichtest.Options{
				Known: known,
				Unknown: []verdict.Query{
					{Type: indicator.Host, Value: "good.example"}, {Type: indicator.Address, Value: "192.0.2.1"}, {Type: indicator.JA3, Value: "e7d705a3286e19ea42f587b344ee6865"},
				},
				New: func(t testing.TB) enrichtest.Looker {
					client, _ := connect(t.(*testing.T), s, func(c *threatconnect.Config) {
						c.APIVersion, c.LargeBatches = version, version == 2 // else it is asked for each indicator
					})
					return client
				},
				Requests: func() int {
					n := 0
					for _, count := range s.Counters().Requests {
						n += count
					}
					return n
				},
			})
		})
	}
}
