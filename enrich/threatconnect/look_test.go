package threatconnect

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"capagent/enrich/indicator"
	"capagent/enrich/verdict"
	"capagent/internal/failure"
)

// store answers v3 lookups with those of its items whose names stand in the query.
func store(items map[string]string) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		tql := tqlOf(req)
		var found []string
		for name, body := range items {
			if strings.Contains(tql, `"`+name+`"`) {
				found = append(found, body)
			}
		}
		slices.Sort(found)
		says(w, 200, `{"data":[`+strings.Join(found, ",")+`],"status":"Success"}`)
	}
}

func tqlOf(req *http.Request) string {
	if tql := req.URL.Query().Get("tql"); tql != "" {
		return tql
	}
	var in struct {
		Data struct {
			TQL string `json:"tql"`
		} `json:"data"`
	}
	_ = json.NewDecoder(req.Body).Decode(&in)
	return in.Data.TQL
}

func TestRepliesBelongToQueriesByTheirCanonicalForms(t *testing.T) {
	md5, sha1, sha256 := strings.Repeat("AB", 16), strings.Repeat("CD", 20), strings.Repeat("EF", 32)
	file := `{"id":9007199254740993,"type":"File","ownerName":"A","summary":"` + md5 + " : " + sha1 + " : " + sha256 + `"}`
	r := newRig(t, func(c *Config) { c.Types = []string{"ja3=JA3 Hash", "certificate=File"} }, store(map[string]string{
		"2001:db8:0:0:0:0:0:1":     `{"type":"Address","ownerName":"A","summary":"2001:DB8::1","ip":"2001:db8:0:0:0:0:0:1"}`,
		"198.51.100.23":            `{"type":"CIDR","ownerName":"A","block":"198.51.100.0/24"}`,
		"evil.example":             `{"type":"Host","ownerName":"A","summary":"EVIL.Example"}`,
		"https://evil.example/Pa":  `{"type":"URL","ownerName":"A","summary":"x","text":"HTTPS://Evil.example/pa"}`,
		md5:                        file,
		sha1:                       file,
		"o'Brien@example.com":      `{"type":"EmailAddress","ownerName":"A","address":"o'brien@example.com"}`,
		"Mozilla \\\"x\\\" (y; z)": `{"type":"User Agent","ownerName":"A","User Agent String":"Mozilla \"x\" (y; z)"}`,
		strings.Repeat("aa", 16):   `{"type":"JA3 Hash","ownerName":"A","summary":"` + strings.Repeat("AA", 16) + `"}`,
		"198.51.100.24":            `{"type":"Host","ownerName":"A","summary":"198.51.100.24"}`,
		"o\\'Brien@example.com":    `{"type":"EmailAddress","ownerName":"A","address":"o'brien@example.com"}`,
	}))
	queries := []verdict.Query{
		{Type: indicator.Address, Value: "2001:db8::1"},
		{Type: indicator.Address, Value: "198.51.100.23"},
		{Type: indicator.Host, Value: "evil.example"},
		{Type: indicator.URL, Value: "http://evil.example/Pa"},
		{Type: indicator.File, Value: strings.ToLower(md5)},
		{Type: indicator.File, Value: strings.ToLower(sha256)},
		{Type: indicator.Certificate, Value: strings.ToLower(sha1)},
		{Type: indicator.Email, Value: "o'Brien@example.com"},
		{Type: indicator.UserAgent, Value: `Mozilla "x" (y; z)`},
		{Type: indicator.JA3, Value: strings.Repeat("aa", 16)},
	}
	unknown := []verdict.Query{
		{Type: indicator.Address, Value: "198.51.100.24"}, // inside the CIDR that came along: known
		{Type: indicator.Host, Value: "other.example"},
		{Type: indicator.JA4, Value: "t13d1516h2_8daaf6152771_b186095e22b6"}, // never asked
		{Type: indicator.LocalHost, Value: "printer"},
	}
	answers, err := r.Look(context.Background(), append(queries, unknown...))
	if err != nil {
		t.Fatal(err)
	}
	if len(answers) != len(queries)+len(unknown) {
		t.Fatalf("%d answers", len(answers))
	}
	for i, a := range answers {
		known := i < len(queries) || a.Value == "198.51.100.24"
		if len(a.Verdicts) > 0 != known || a.At.IsZero() {
			t.Errorf("%s %s: %+v", a.Type, a.Value, a.Verdicts)
		}
	}
	for _, target := range r.requests() {
		target, _ = url.QueryUnescape(target)
		if strings.Contains(target, "t13d1516") || strings.Contains(target, "printer") {
			t.Errorf("asked for what ThreatConnect has no type for: %s", target)
		}
	}
	if id := answers[4].Verdicts[0].ID; id != 9007199254740993 {
		t.Errorf("id %d", id)
	}
}

func TestOwnersAndGroupsAreAskedFor(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Owners, c.Groups = []string{"A", `B "C"`}, true }, always(200, nothing))
	if _, err := r.Look(context.Background(), one(indicator.Host, "evil.example")); err != nil {
		t.Fatal(err)
	}
	want := `GET /api/v3/indicators?tql=typeName+in+(%22Host%22)+and+summary+in+(%22evil.example%22)+and+ownerName+in+(%22A%22,%22B+%5C%22C%5C%22%22)&resultLimit=500&fields=associatedGroups`
	if got := r.requests(); len(got) != 1 || got[0] != want {
		t.Errorf("got  %v\nwant %s", got, want)
	}
}

func TestInactiveIndicatorsAreLeftOut(t *testing.T) {
	r := newRig(t, nil, always(200, `{"data":[{"type":"Host","summary":"evil.example","ownerName":"A","active":false},
		{"type":"Host","summary":"evil.example","ownerName":"B","active":"false"},
		{"type":"Host","summary":"evil.example","ownerName":"C","active":true},
		{"type":"Host","summary":"evil.example","ownerName":"D"}],"status":"Success"}`))
	answers, err := r.Look(context.Background(), one(indicator.Host, "evil.example"))
	if err != nil || len(answers) != 1 || len(answers[0].Verdicts) != 2 {
		t.Fatalf("%+v, %v", answers, err)
	}
	if v := answers[0].Verdicts; v[0].Owner != "C" || v[1].Owner != "D" {
		t.Errorf("%+v", v)
	}
}

func TestPagesAreFollowedOnTheConfiguredServerOnly(t *testing.T) {
	page := func(owner, next string) string {
		return fmt.Sprintf(`{"next":%s,"data":[{"type":"Host","summary":"evil.example","ownerName":%q}],"status":"Success"}`, next, owner)
	}
	for _, test := range []struct{ name, next, class string }{
		{"the same server", `"http://%s/api/v3/indicators?tql=x%%20%%28&resultStart=1"`, ""},
		{"its inner name", `"https://tc.internal:8443/api/v3/indicators?tql=x%%20%%28&resultStart=1"`, ""},
		{"a path", `"/api/v3/indicators?tql=x%%20%%28&resultStart=1"`, ""},
		{"another path", `"http://%s/api/v2/whatever?tql=x"`, ClassBadReply},
		{"no path", `"http://elsewhere.example"`, ClassBadReply},
		{"a line break", `"/api/v3/indicators?tql=x\r\nHost: y"`, ClassBadReply},
		{"a blank", `"/api/v3/indicators?tql=x y"`, ClassBadReply},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t, nil, func(w http.ResponseWriter, req *http.Request) {
				if strings.HasSuffix(req.RequestURI, "?tql=x%20%28&resultStart=1") {
					says(w, 200, page("B", "null"))
					return
				}
				next := test.next
				if strings.Contains(next, "%") {
					next = strings.Replace(strings.ReplaceAll(next, "%%", "%"), "%s", req.Host, 1)
				}
				says(w, 200, page("A", next))
			})
			answers, err := r.Look(context.Background(), one(indicator.Host, "evil.example"))
			if test.class != "" {
				isFailure(t, err, failure.Retry, test.class)
				if n := len(r.requests()); n != 1 {
					t.Errorf("%d requests", n)
				}
				return
			}
			if err != nil || len(answers[0].Verdicts) != 2 {
				t.Errorf("%v, %v", answers, err)
			}
		})
	}
}

func TestEndlessPagesEnd(t *testing.T) {
	for _, grow := range []string{"", "&x="} {
		n := 0
		r := newRig(t, nil, func(w http.ResponseWriter, _ *http.Request) {
			n++
			next := "/api/v3/indicators?a=b"
			if grow != "" {
				next += grow + fmt.Sprint(n)
			}
			says(w, 200, `{"next":"`+next+`","data":[{"type":"Host","summary":"evil.example"}],"status":"Success"}`)
		})
		_, err := r.Look(context.Background(), one(indicator.Host, "evil.example"))
		isFailure(t, err, failure.Retry, ClassBadReply)
		if n > maxPages || grow == "" && n > 2 {
			t.Errorf("%d requests", n)
		}
	}
}

func TestMoreItemsThanAskedForAreRefused(t *testing.T) {
	r := newRig(t, nil, always(200, `{"data":[`+strings.Repeat("{},", 1<<20)+`{}],"status":"Success"}`))
	_, err := r.Look(context.Background(), one(indicator.Host, "evil.example"))
	isFailure(t, err, failure.Retry, ClassBadReply)
}

func TestAValueThatTheServerRefusesLeavesTheOthersAlone(t *testing.T) {
	r := newRig(t, nil, func(w http.ResponseWriter, req *http.Request) {
		if strings.Contains(tqlOf(req), "poison") {
			says(w, 400, `{"errCode":"0x2001","message":"TqlParseError","status":"Error"}`)
			return
		}
		says(w, 200, nothing)
	})
	var queries []verdict.Query
	for i := range 50 {
		queries = append(queries, verdict.Query{Type: indicator.Host, Value: fmt.Sprintf("h%d.example", i)})
	}
	queries[30].Value = "poison.example"
	answers, err := r.Look(context.Background(), queries)
	isFailure(t, err, failure.Permanent, ClassBadQuery)
	if len(answers) != 49 || !strings.Contains(err.Error(), "1 of 50") {
		t.Errorf("%d answers, %v", len(answers), err)
	}
}

func TestAServerThatRefusesEverythingIsNotAskedForEachValue(t *testing.T) {
	r := newRig(t, nil, always(400, `{"errCode":"0x2001","message":"TqlParseError","status":"Error"}`))
	var queries []verdict.Query
	for i := range 500 {
		queries = append(queries, verdict.Query{Type: indicator.Host, Value: fmt.Sprintf("h%d.example", i)})
	}
	_, err := r.Look(context.Background(), queries)
	isFailure(t, err, failure.Retry, ClassBadQuery)
	if n := len(r.requests()); n > 3*maxSplits {
		t.Errorf("%d requests", n)
	}
}

func TestWhatWasAnsweredIsKept(t *testing.T) {
	n := 0
	var mu sync.Mutex
	r := newRig(t, nil, func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if n++; n > 4 { // the exclusions are the first
			says(w, 503, `{}`)
			return
		}
		says(w, 200, nothing)
	})
	var queries []verdict.Query
	for i := range 1000 {
		queries = append(queries, verdict.Query{Type: indicator.Host, Value: fmt.Sprintf("host-%d.example.com", i)})
	}
	answers, err := r.Look(context.Background(), queries)
	isFailure(t, err, failure.Retry, ClassBusy)
	if len(answers) < 150 || len(answers) > 300 {
		t.Errorf("%d answers", len(answers))
	}
	if len(r.requests()) > 6 {
		t.Errorf("%d requests: one error is enough", len(r.requests()))
	}
}

func TestEqualLookupsAreJoined(t *testing.T) {
	begun, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	r := newRig(t, nil, func(w http.ResponseWriter, _ *http.Request) {
		once.Do(func() { close(begun) })
		<-release
		says(w, 200, `{"data":[{"type":"Host","summary":"evil.example","ownerName":"A"}],"status":"Success"}`)
	})
	look := func() chan error {
		done := make(chan error)
		go func() {
			answers, err := r.Look(context.Background(), one(indicator.Host, "evil.example"))
			if err == nil && (len(answers) != 1 || len(answers[0].Verdicts) != 1) {
				err = fmt.Errorf("%+v", answers)
			}
			done <- err
		}()
		return done
	}
	first := look()
	<-begun
	second := look()
	time.Sleep(20 * time.Millisecond)
	close(release)
	for _, done := range []chan error{first, second} {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if n := len(r.requests()); n != 1 {
		t.Errorf("%d requests", n)
	}
}

func TestWhoWaitsAsksAgainWhenTheFirstGivesUp(t *testing.T) {
	begun, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	r := newRig(t, nil, func(w http.ResponseWriter, req *http.Request) {
		first := false
		once.Do(func() { first = true; close(begun) })
		if first {
			select {
			case <-release:
			case <-req.Context().Done():
			}
			return
		}
		says(w, 200, nothing)
	})
	defer close(release)
	ctx, cancel := context.WithCancel(context.Background())
	first, second := make(chan error), make(chan error)
	go func() { _, err := r.Look(ctx, one(indicator.Host, "evil.example")); first <- err }()
	<-begun
	go func() {
		_, err := r.Look(context.Background(), one(indicator.Host, "evil.example"))
		second <- err
	}()
	time.Sleep(20 * time.Millisecond)
	cancel()
	if err := <-first; err == nil {
		t.Error("the first one succeeded")
	}
	if err := <-second; err != nil {
		t.Error(err)
	}
}

func TestLargeBatchesGoIntoTheBody(t *testing.T) {
	r := newRig(t, func(c *Config) { c.LargeBatches = true }, store(map[string]string{
		"h7.example": `{"type":"Host","summary":"h7.example","ownerName":"A"}`,
	}))
	var queries []verdict.Query
	for i := range 299 {
		queries = append(queries, verdict.Query{Type: indicator.Host, Value: fmt.Sprintf("h%d.example", i)})
	}
	answers, err := r.Look(context.Background(), queries)
	if err != nil || len(answers) != 299 || len(answers[7].Verdicts) != 1 {
		t.Fatalf("%d, %v", len(answers), err)
	}
	if got := r.requests(); len(got) != 1 || !strings.HasPrefix(got[0], `GET /api/v3/indicators {"data":{"tql":"typeName in (\"Host\")`) {
		t.Errorf("%d requests: %.200s", len(got), got)
	}
}

func TestLargeBatchesThatAreNotTakenBecomeSmall(t *testing.T) {
	unfiltered := `{"data":[{"type":"Host","summary":"a.example","ownerName":"A"},{"type":"Host","summary":"b.example","ownerName":"A"}],"status":"Success"}`
	for name, large := range map[string]http.HandlerFunc{
		"a proxy drops the body": always(200, unfiltered),
		"a proxy refuses it":     always(400, `<html>`),
		"an old server":          always(500, `{"status":"Error","message":"An unknown error occurred"}`),
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, func(c *Config) { c.LargeBatches = true }, func(w http.ResponseWriter, req *http.Request) {
				if req.URL.RawQuery == "" {
					large(w, req)
					return
				}
				store(map[string]string{"h7.example": `{"type":"Host","summary":"h7.example","ownerName":"A"}`})(w, req)
			})
			var queries []verdict.Query
			for i := range 100 {
				queries = append(queries, verdict.Query{Type: indicator.Host, Value: fmt.Sprintf("h%d.example", i)})
			}
			for range 2 {
				answers, err := r.Look(context.Background(), queries)
				if err != nil || len(answers) != 100 || len(answers[7].Verdicts) != 1 {
					t.Fatalf("%d, %v", len(answers), err)
				}
			}
			large := 0
			for _, line := range r.requests() {
				if strings.Contains(line, "{") {
					large++
				}
			}
			if large != 1 || strings.Count(r.log.String(), "\n") != 1 {
				t.Errorf("%d large requests, log %s", large, r.log)
			}
		})
	}
}

func TestAValueThatIsTooLongIsRefusedAlone(t *testing.T) {
	r := newRig(t, nil, always(200, nothing))
	long := func(n int) verdict.Query {
		return verdict.Query{Type: indicator.URL, Value: "http://a.example/" + strings.Repeat("x", n)}
	}
	answers, err := r.Look(context.Background(), []verdict.Query{long(10), long(2500), long(8000), long(20)})
	isFailure(t, err, failure.Permanent, ClassBadQuery)
	if len(answers) != 3 {
		t.Errorf("%d answers, %v", len(answers), err)
	}
	for _, line := range r.requests() {
		if len(line) > maxLine+100 {
			t.Errorf("a line of %d bytes", len(line))
		}
	}
}

// TestRequestsFor10000 says what a cold lookup costs.
func TestRequestsFor10000(t *testing.T) {
	const n = 10_000
	make10000 := func(one func(i int) verdict.Query) []verdict.Query {
		list := make([]verdict.Query, n)
		for i := range list {
			list[i] = one(i)
		}
		return list
	}
	address := func(i int) verdict.Query {
		return verdict.Query{Type: indicator.Address, Value: fmt.Sprintf("%d.%d.%d.%d", 1+i*7%223, i*31%256, i/256, i%256)}
	}
	host := func(i int) verdict.Query {
		return verdict.Query{Type: indicator.Host, Value: fmt.Sprintf("host%05d.example.com", i)[:20]}
	}
	file := func(i int) verdict.Query {
		return verdict.Query{Type: indicator.File, Value: strings.Repeat(fmt.Sprintf("%08x", i), []int{4, 5, 8}[i%3])}
	}
	link := func(i int) verdict.Query {
		return verdict.Query{Type: indicator.URL, Value: fmt.Sprintf("http://host%05d.example.com/index%05d.html", i, i)}
	}
	for _, test := range []struct {
		name        string
		one         func(i int) verdict.Query
		small, most int // requests without and with large batches
	}{
		{"addresses", address, 105, 30},
		{"hosts of 20 characters", host, 145, 30},
		{"digests, a third each", file, 290, 35},
		{"URLs of 42 characters, http and https", link, 560, 55},
		{"60 % addresses, 30 % hosts, 5 % digests, 5 % URLs", func(i int) verdict.Query {
			switch m := i % 20; {
			case m < 12:
				return address(i)
			case m < 18:
				return host(i)
			case m < 19:
				return file(i)
			default:
				return link(i)
			}
		}, 150, 35},
		{"a quarter each", func(i int) verdict.Query {
			return []func(int) verdict.Query{address, host, file, link}[i%4](i)
		}, 275, 45},
	} {
		for _, large := range []bool{false, true} {
			r := newRig(t, func(c *Config) { c.LargeBatches, c.Rate = large, maxRate }, always(200, nothing))
			r.pace.SetLimit(1e9)
			answers, err := r.Look(context.Background(), make10000(test.one))
			if err != nil || len(answers) != n {
				t.Fatalf("%s: %d answers, %v", test.name, len(answers), err)
			}
			most, longest := test.small, 0
			if large {
				most = test.most
			}
			for _, line := range r.requests() {
				if _, q, ok := strings.Cut(line, "?"); ok {
					longest = max(longest, len(q))
				}
			}
			got := len(r.requests())
			t.Logf("%s, large_batches = %t: %d requests, longest query %d", test.name, large, got, longest)
			if got > most || longest >= maxQuery {
				t.Errorf("%s, large_batches = %t: %d requests (want at most %d), longest query %d", test.name, large, got, most, longest)
			}
		}
	}
}
