package threatconnect_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"capagent/enrich/indicator"
	"capagent/enrich/threatconnect"
	"capagent/enrich/threatconnecttest"
	"capagent/enrich/verdict"
	"capagent/internal/failure"
	"capagent/internal/httpx"
	"capagent/internal/secret"
)

func connect(t *testing.T, s *threatconnecttest.Server, change func(*threatconnect.Config)) (*threatconnect.Client, *bytes.Buffer) {
	t.Helper()
	c := threatconnect.DefaultConfig()
	c.URL, c.AccessID, c.SecretKey, c.Rate = s.APIURL(), s.AccessID, secret.New(s.SecretKey), 100
	if change != nil {
		change(&c)
	}
	log := &bytes.Buffer{}
	client, err := threatconnect.New(c, "test", zerolog.New(log))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client, log
}

var (
	md5    = strings.Repeat("ab", 16)
	sha1   = strings.Repeat("cd", 20)
	sha256 = strings.Repeat("ef", 32)
	known  = []verdict.Query{
		{Type: indicator.Address, Value: "198.51.100.23"},
		{Type: indicator.Address, Value: "2001:db8::1"},
		{Type: indicator.Host, Value: "evil.example.com"},
		{Type: indicator.Host, Value: "xn--mnchen-3ya.example"},
		{Type: indicator.URL, Value: "http://evil.example.com/A?b=1&c='x'"},
		{Type: indicator.URL, Value: "http://evil.example.com/tls"},
		{Type: indicator.File, Value: md5},
		{Type: indicator.File, Value: sha1},
		{Type: indicator.File, Value: sha256},
		{Type: indicator.Email, Value: "o'brien@evil.example.com"},
		{Type: indicator.UserAgent, Value: `Evil/1.0 ("x"; \y)`},
	}
	unknown = []verdict.Query{
		{Type: indicator.Address, Value: "203.0.113.9"},
		{Type: indicator.Host, Value: "good.example"},
		{Type: indicator.URL, Value: `http://good.example/") or typeName in ("Host`},
		{Type: indicator.File, Value: strings.Repeat("12", 16)},
		{Type: indicator.JA3, Value: md5},
	}
)

func load(s *threatconnecttest.Server) {
	for n, i := range []threatconnecttest.Indicator{
		{Type: "Address", Value: "198.51.100.23"},
		{Type: "Address", Value: "2001:db8:0:0:0:0:0:1"},
		{Type: "Host", Value: "evil.example.com"},
		{Type: "Host", Value: "xn--mnchen-3ya.example"},
		{Type: "URL", Value: "http://evil.example.com/A?b=1&c='x'"},
		{Type: "URL", Value: "https://evil.example.com/tls"},
		{Type: "File", Value: strings.ToUpper(md5 + " : " + sha1 + " : " + sha256)},
		{Type: "EmailAddress", Value: "o'brien@evil.example.com"},
		{Type: "User Agent", Value: `Evil/1.0 ("x"; \y)`},
	} {
		for _, owner := range []string{"Common Community", "Other Source", "Third"} {
			i.Owner, i.Rating, i.Confidence, i.Description = owner, 3.5, 60+n, "because"
			i.Groups = []threatconnecttest.Group{{Type: "Adversary", Name: "Bad " + owner}, {Type: "Incident", Name: "Case"}}
			i.Added = time.Date(2026, 1, 2, 3, 4, 5+n, 0, time.UTC)
			s.Add(i)
		}
		i.Owner, i.Inactive = "Sleeping", true
		s.Add(i)
	}
}

func TestBothVersionsFindTheSame(t *testing.T) {
	var before string
	for _, version := range []int{3, 2} {
		for _, large := range []bool{false, true} {
			for _, atRoot := range []bool{false, true} {
				s := threatconnecttest.Start(t, threatconnecttest.Options{AtRoot: atRoot})
				load(s)
				client, log := connect(t, s, func(c *threatconnect.Config) {
					c.APIVersion, c.LargeBatches, c.Groups, c.Owners = version, large, true, []string{"Common Community", "Other Source"}
				})
				answers, err := client.Look(context.Background(), append(slices.Clone(known), unknown...))
				if err != nil {
					t.Fatal(err)
				}
				var got strings.Builder
				for n, a := range answers {
					slices.SortFunc(a.Verdicts, func(a, b verdict.Verdict) int { return strings.Compare(a.Owner, b.Owner) })
					if want := 2 * min(1, max(0, len(known)-n)); len(a.Verdicts) != want {
						t.Errorf("v%d large=%t %s %s: %d verdicts, want %d", version, large, a.Type, a.Value, len(a.Verdicts), want)
					}
					for _, v := range a.Verdicts {
						if v.ID == 0 || v.Link == "" && atRoot {
							t.Errorf("%+v", v)
						}
						for i := range v.Groups {
							v.Groups[i].Link = ""
						}
						fmt.Fprintln(&got, a.Type, a.Value, v.Owner, v.Rating, v.Confidence, v.Groups, v.Description)
					}
				}
				if before != "" && got.String() != before {
					t.Errorf("v%d large=%t differs:\n%s\nfrom\n%s", version, large, &got, before)
				}
				before = got.String()
				if v := s.Violations(); len(v) > 0 {
					t.Errorf("v%d large=%t: %v", version, large, v)
				}
				if n := s.Counters(); n.Unauthorized > 0 || n.MaxServing > 2 {
					t.Errorf("%+v", n)
				}
				if log.Len() > 0 {
					t.Errorf("v%d large=%t: %s", version, large, log)
				}
			}
		}
	}
}

func TestFaults(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	for fault, want := range map[string]struct {
		kind  failure.Kind
		class string
	}{
		"unauthorized":                     {failure.Pause, threatconnect.ClassBadCredentials},
		"forbidden":                        {failure.Pause, threatconnect.ClassNoPermission},
		"unlicensed":                       {failure.Pause, threatconnect.ClassNoLicence},
		"retryafter":                       {failure.Retry, threatconnect.ClassBusy},
		"status":                           {failure.Retry, threatconnect.ClassServerError},
		"html":                             {failure.Retry, threatconnect.ClassBadReply},
		"text":                             {failure.Pause, threatconnect.ClassBadURL},
		"hang":                             {failure.Retry, httpx.ClassCanceled},
		"reset":                            {failure.Retry, httpx.ClassNetwork},
		"drop":                             {failure.Retry, httpx.ClassNetwork},
		"huge":                             {failure.Retry, threatconnect.ClassBadReply},
		"redirect":                         {failure.Pause, httpx.ClassRedirect},
		"echo":                             {failure.Retry, threatconnect.ClassServerError},
		"slow":                             {failure.Retry, httpx.ClassCanceled},
		"dribble":                          {failure.Retry, httpx.ClassCanceled},
		"badjson":                          {failure.Retry, threatconnect.ClassBadReply},
		"skew":                             {},
		"skew:by=-3h":                      {},
		"lying":                            {},
		"wild":                             {},
		"nextelsewhere":                    {},
		"unauthorized:times=1":             {failure.Pause, threatconnect.ClassBadCredentials},
		"retryafter:retry_after=x,times=1": {failure.Retry, threatconnect.ClassBusy},
	} {
		for _, version := range []int{3, 2} {
			t.Run(fmt.Sprintf("%s v%d", fault, version), func(t *testing.T) {
				s := threatconnecttest.Start(t, threatconnecttest.Options{})
				load(s)
				f, err := threatconnecttest.ParseFault(fault)
				if err != nil {
					t.Fatal(err)
				}
				s.SetFault(f)
				client, log := connect(t, s, func(c *threatconnect.Config) { c.APIVersion, c.Groups = version, true })
				ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
				if want.class == httpx.ClassCanceled {
					cancel()
					ctx, cancel = context.WithTimeout(context.Background(), 300*time.Millisecond)
				}
				defer cancel()
				begun := time.Now()
				answers, err := client.Look(ctx, known[:3])
				if took := time.Since(begun); want.class == httpx.ClassCanceled && took > 5*time.Second {
					t.Errorf("took %s", took)
				}
				if want.class == "" {
					if err != nil || len(answers) != 3 {
						t.Errorf("%v, %v", answers, err)
					}
				} else if f := failure.As(err); err == nil || f.Kind != want.kind || f.Class != want.class || len(answers) > 0 && !strings.Contains(fault, "times") {
					t.Errorf("got %v (%+v), %d answers", err, f, len(answers))
				}
				for _, a := range answers {
					for _, v := range a.Verdicts {
						if v.Rating > 5 || v.Confidence < 0 || strings.ContainsAny(v.Owner+v.Description, "\x00\x1b\n") || strings.HasPrefix(v.Link, "java") {
							t.Errorf("%+v", v)
						}
					}
				}
				if text := fmt.Sprint(err, log); strings.Contains(text, s.SecretKey) || strings.Contains(text, "TC "+s.AccessID+":") {
					t.Errorf("shows a secret: %s", text)
				}
			})
		}
	}
}

func TestAServerThatSpeaksNoV3(t *testing.T) {
	s := threatconnecttest.Start(t, threatconnecttest.Options{NoV3: true})
	client, _ := connect(t, s, nil)
	_, err := client.Look(context.Background(), known[:1])
	if f := failure.As(err); f == nil || f.Kind != failure.Pause || f.Class != threatconnect.ClassBadURL || !strings.Contains(f.Hint, "api_version") {
		t.Errorf("%v", err)
	}
}

func TestAMisspeltOwnerIsNoOwnerThatKnowsNothing(t *testing.T) {
	for _, version := range []int{3, 2} {
		s := threatconnecttest.Start(t, threatconnecttest.Options{})
		load(s)
		client, _ := connect(t, s, func(c *threatconnect.Config) {
			c.APIVersion, c.Owners = version, []string{"Comon Community"}
		})
		answers, err := client.Look(context.Background(), known[:1])
		if f := failure.As(err); f == nil || f.Kind != failure.Pause || f.Class != threatconnect.ClassNoOwner || len(answers) > 0 {
			t.Errorf("v%d: %v, %v", version, answers, err)
		}
	}
}

func TestOwnersThatCantBeListedAreBelieved(t *testing.T) {
	s := threatconnecttest.Start(t, threatconnecttest.Options{})
	load(s)
	s.SetFault(threatconnecttest.Fault{Name: "forbidden", Endpoint: "v3.owners"})
	client, log := connect(t, s, func(c *threatconnect.Config) { c.Owners = []string{"Third"} })
	for range 2 {
		answers, err := client.Look(context.Background(), known[:1])
		if err != nil || len(answers) != 1 || len(answers[0].Verdicts) != 1 {
			t.Errorf("%v, %v", answers, err)
		}
	}
	if strings.Count(log.String(), "\n") != 1 {
		t.Errorf("log: %s", log)
	}
}

func TestAProxyThatDropsBodies(t *testing.T) {
	s := threatconnecttest.Start(t, threatconnecttest.Options{NoBody: true})
	load(s)
	client, log := connect(t, s, func(c *threatconnect.Config) { c.LargeBatches = true })
	answers, err := client.Look(context.Background(), []verdict.Query{unknown[0], known[0]})
	if err != nil || len(answers) != 2 || len(answers[0].Verdicts) != 0 || len(answers[1].Verdicts) != 3 {
		t.Errorf("%+v, %v", answers, err)
	}
	if strings.Count(log.String(), "\n") != 1 {
		t.Errorf("log: %s", log)
	}
}

func TestPagesOfManyOwners(t *testing.T) {
	s := threatconnecttest.Start(t, threatconnecttest.Options{})
	for n := range 600 {
		s.Add(threatconnecttest.Indicator{Type: "Host", Value: fmt.Sprintf("h%d.example", n%30), Owner: fmt.Sprintf("Owner %d", n/30), Rating: 1})
	}
	for _, large := range []bool{false, true} {
		client, _ := connect(t, s, func(c *threatconnect.Config) { c.LargeBatches = large })
		var queries []verdict.Query
		for n := range 30 {
			queries = append(queries, verdict.Query{Type: indicator.Host, Value: fmt.Sprintf("h%d.example", n)})
		}
		answers, err := client.Look(context.Background(), queries)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range answers {
			if len(a.Verdicts) != 20 {
				t.Errorf("large=%t %s: %d verdicts", large, a.Value, len(a.Verdicts))
			}
		}
	}
}

func TestWritingBack(t *testing.T) {
	for _, version := range []int{3, 2} {
		s := threatconnecttest.Start(t, threatconnecttest.Options{Organization: "Common Community"})
		load(s)
		client, _ := connect(t, s, func(c *threatconnect.Config) { c.APIVersion = version })
		ctx := context.Background()
		answers, err := client.Look(ctx, known)
		if err != nil {
			t.Fatal(err)
		}
		var findings []verdict.Finding
		for n, a := range answers {
			findings = append(findings, verdict.Finding{
				Indicator: indicator.Indicator{Type: a.Type, Value: a.Value, Count: int64(n + 1), First: indicator.At{Frame: 7}}, Verdicts: a.Verdicts,
			})
			if err := client.Observe(ctx, a.Query, a.Verdicts[0], int64(n+1)); err != nil {
				t.Errorf("v%d %s: %v", version, a.Value, err)
			}
		}
		if got := s.Observations(); len(got) != len(known) {
			t.Errorf("v%d: %+v", version, got)
		}
		made, err := client.Incident(ctx, "capagent: flagged", time.Now(), "https://cs.example/captures/0123456789ab", findings)
		if err != nil || made.ID == 0 {
			t.Fatalf("v%d: %+v, %v", version, made, err)
		}
		if got := s.Incidents(); len(got) != 1 {
			t.Errorf("v%d: %+v", version, got)
		} else {
			t.Logf("v%d: %+v", version, got[0])
		}
		found, ok, err := client.FindIncident(ctx, "capagent: flagged")
		if err != nil || !ok || found.ID != made.ID {
			t.Errorf("v%d: %+v, %t, %v; made %+v", version, found, ok, err, made)
		}
		if err := client.Check(ctx); err != nil {
			t.Error(err)
		}
		if v := s.Violations(); len(v) > 0 {
			t.Errorf("v%d: %v", version, v)
		}
	}
}

func TestExclusionsOfTheServer(t *testing.T) {
	s := threatconnecttest.Start(t, threatconnecttest.Options{})
	s.AddExclusions(threatconnecttest.ExclusionList{Name: "x", Fixed: []string{"good.example"}, Variable: []string{"10.0.0.0/8", "*@good.example"}})
	client, _ := connect(t, s, nil)
	got, err := client.Exclusions(context.Background())
	if want := []string{"*@good.example", "10.0.0.0/8", "good.example"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestWhatThreatConnectExcludesIsNotAsked(t *testing.T) {
	s := threatconnecttest.Start(t, threatconnecttest.Options{})
	s.AddExclusions(threatconnecttest.ExclusionList{Name: "x", Fixed: []string{"host-1.example"}, Variable: []string{"198.51.100.0/24", "*.corp.example"}})
	client, _ := connect(t, s, nil)
	queries := []verdict.Query{{Type: indicator.Address, Value: "198.51.100.9"}, {Type: indicator.Host, Value: "a.corp.example"}, {Type: indicator.Host, Value: "below.host-1.example"}}
	for i := range 400 {
		queries = append(queries, verdict.Query{Type: indicator.Host, Value: fmt.Sprintf("host-%d.example", i)})
	}
	for range 2 {
		answers, err := client.Look(context.Background(), queries)
		if err != nil || len(answers) != len(queries) {
			t.Fatalf("%d answers, %v", len(answers), err)
		}
	}
	asked := ""
	lists := 0
	for _, r := range s.Requests() {
		asked += r.Target + "\n"
		if strings.Contains(r.Target, "exclusionLists") {
			lists++
		}
	}
	if lists != 1 {
		t.Errorf("the lists are asked for %d times", lists)
	}
	for text, want := range map[string]bool{"198.51.100.9": false, "a.corp.example": false, "%22host-1.example": false, "below.host-1.example": true, "host-2.example": true} {
		if strings.Contains(asked, text) != want {
			t.Errorf("%s asked: %v\n%s", text, !want, asked)
		}
	}
	// Few are asked as they are, and without the lists nothing is left out.
	small, _ := connect(t, s, nil)
	if _, err := small.Look(context.Background(), queries[:3]); err != nil {
		t.Error(err)
	}
	s.SetFault(threatconnecttest.Fault{Name: "forbidden", Endpoint: "v3.exclusions"})
	if answers, err := small.Look(context.Background(), queries); err != nil || len(answers) != len(queries) {
		t.Errorf("%d answers, %v", len(answers), err)
	}
}
