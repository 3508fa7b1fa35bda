package threatconnect

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"capagent/enrich/indicator"
	"capagent/enrich/verdict"
	"capagent/internal/failure"
)

var testBase = base{"https", "tc.example", "/api"}

func TestDatesOfAllKinds(t *testing.T) {
	for text, want := range map[string]string{
		"2017-07-13T17:50:17Z":          "2017-07-13T17:50:17Z",
		"2017-07-13T17:50:17-05:00":     "2017-07-13T22:50:17Z",
		"2017-07-13T17:50:17-05:00Z":    "2017-07-13T22:50:17Z",
		"2017-07-13T17:50:17+0200":      "2017-07-13T15:50:17Z",
		"2017-07-13T17:50:17":           "2017-07-13T17:50:17Z",
		"2017-07-13T17:50:17.123Z":      "2017-07-13T17:50:17.123Z",
		"2017-07-13T17:50:17.123-05:00": "2017-07-13T22:50:17.123Z",
		"2017-07-13 17:50:17":           "2017-07-13T17:50:17Z",
		"2017-07-13":                    "2017-07-13T00:00:00Z",
		"1499968217":                    "2017-07-13T17:50:17Z",
		"1499968217000":                 "2017-07-13T17:50:17Z",
		"":                              "",
		"null":                          "",
		"yesterday":                     "",
		"-05:00Z":                       "",
		"0000-00-00T00:00:00Z":          "",
	} {
		for _, data := range []string{`"` + text + `"`, text} {
			if data == text && !strings.HasPrefix(text, "1499") && text != "null" {
				continue
			}
			var d date
			if err := d.UnmarshalJSON([]byte(data)); err != nil {
				t.Fatal(err)
			}
			got := ""
			if !d.IsZero() {
				got = d.Format(time.RFC3339Nano)
			}
			if got != want {
				t.Errorf("%s: got %s, want %s", data, got, want)
			}
		}
	}
}

// The shapes are those that the contract lists from documentation, clients and
// their recorded replies (2.2, 3.1, 4.2).
func TestLooseItems(t *testing.T) {
	for _, test := range []struct {
		name, body string
		want       verdict.Verdict
	}{
		{
			"v3 in full", `{"id":54029912,"ownerId":10666,"ownerName":"Acme Corp","dateAdded":"2021-11-05T17:54:11Z","webLink":"https://app.example/#/details/indicators/54029912/overview",
			"type":"Host","lastModified":"2021-11-05T17:54:14Z","rating":4.00,"confidence":55,"source":"x","description":"Seen at\r\nBank \u202e of\tX","summary":"zexeb.cc","privateFlag":false,
			"active":true,"activeLocked":false,"hostName":"zexeb.cc","dnsActive":false,"whoisActive":false,"legacyLink":"https://app.example/auth/x",
			"associatedGroups":{"data":[{"id":1,"type":"Threat","name":"T","webLink":"https://app.example/t"},{"type":"Report","name":"R"},{"type":"Intrusion Set","name":"I"}]},
			"tags":{},"attributes":{"count":0}}`,
			verdict.Verdict{
				Owner: "Acme Corp", Rating: 4, Confidence: 55, ID: 54029912, Link: "https://app.example/#/details/indicators/54029912/overview", Description: "Seen at Bank of X",
				Groups:   []verdict.Group{{Type: "Threat", Name: "T", Link: "https://app.example/t"}, {Type: "Intrusion Set", Name: "I"}},
				Modified: time.Date(2021, 11, 5, 17, 54, 14, 0, time.UTC),
			},
		},
		{"almost nothing", `{}`, verdict.Verdict{}},
		{"a rating without confidence", `{"rating":2.5}`, verdict.Verdict{Rating: 2.5}},
		{"numbers as text", `{"id":"9223372036854775807","rating":"3.0","confidence":"90"}`, verdict.Verdict{ID: 9223372036854775807, Rating: 3, Confidence: 90}},
		{"an id above 2^53", `{"id":9007199254740993}`, verdict.Verdict{ID: 9007199254740993}},
		{"out of bounds", `{"id":99999999999999999999,"rating":1e300,"confidence":-7}`, verdict.Verdict{Rating: 5}},
		{"nonsense", `{"id":{},"rating":"high","confidence":[1],"description":{"a":1},"webLink":7,"ownerName":null,"associatedGroups":"x","lastModified":{}}`, verdict.Verdict{}},
		{"null everywhere", `{"id":null,"rating":null,"confidence":null,"description":null,"webLink":null,"associatedGroups":null,"active":null}`, verdict.Verdict{}},
		{"v2's owner", `{"owner":{"id":1,"name":"O","type":"Source"},"webLink":"null/auth/indicators/x"}`, verdict.Verdict{Owner: "O", Link: "https://tc.example/auth/indicators/x"}},
		{"a relative link", `{"webLink":"/#/details/indicators/1/overview"}`, verdict.Verdict{Link: "https://tc.example/#/details/indicators/1/overview"}},
		{"added only", `{"dateAdded":"2020-01-02"}`, verdict.Verdict{Modified: time.Date(2020, 1, 2, 0, 0, 0, 0, time.UTC)}},
		{"no groups", `{"associatedGroups":{}}`, verdict.Verdict{}},
		{"counted groups", `{"associatedGroups":{"count":0}}`, verdict.Verdict{}},
		{"a bare list of groups", `{"associatedGroups":[{"type":"MALWARE","name":"M"}]}`, verdict.Verdict{Groups: []verdict.Group{{Type: "MALWARE", Name: "M"}}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var i item
			if err := json.Unmarshal([]byte(test.body), &i); err != nil {
				t.Fatal(err)
			}
			test.want.Source = Name
			if got := i.verdict(testBase); fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", test.want) {
				t.Errorf("got  %+v\nwant %+v", got, test.want)
			}
		})
	}
}

func TestLinksThatNobodyShouldFollow(t *testing.T) {
	for _, text := range []string{
		"javascript:alert(1)", "http://tc.example/x", "//evil.example/x", "https://u:p@evil.example/", "https:evil", "ftp://x/y", "null", "nullnull/x",
		"https://tc.example/a b", "https://tc.example/\x1b[2J", "https://tc.example/\"onclick=", "https://tc.example/☃", "https://tc.example/" + strings.Repeat("a", maxLink),
	} {
		if got := testBase.link(text); got != "" {
			t.Errorf("%q became %q", text, got)
		}
	}
}

func TestFilesAreKnownByEachDigest(t *testing.T) {
	md5, sha1, sha256 := strings.Repeat("AB", 16), strings.Repeat("CD", 20), strings.Repeat("EF", 32)
	r := newRig(t, nil, func(w http.ResponseWriter, _ *http.Request) {
		says(w, 200, `{"data":[{"type":"File","ownerName":"joined","summary":"`+md5+" : "+sha256+`"},{"type":"File","ownerName":"fields","sha1":"`+sha1+`"}],"status":"Success"}`)
	})
	answers, err := r.Look(context.Background(), append(one(indicator.File, strings.ToLower(md5)), append(one(indicator.File, strings.ToLower(sha1)), one(indicator.File, strings.ToLower(sha256))...)...))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"joined", "fields", "joined"} {
		if v := answers[i].Verdicts; len(v) != 1 || v[0].Owner != want {
			t.Errorf("%d: %+v", i, v)
		}
	}
	want := `GET /api/v3/indicators?tql=typeName+in+(%22File%22)+and+(value1+in+(%22` + md5 + `%22)+or+value2+in+(%22` + sha1 + `%22)+or+value3+in+(%22` + sha256 + `%22))&resultLimit=500`
	if got := r.requests(); len(got) != 1 || got[0] != want {
		t.Errorf("got %v", got)
	}
}

func TestOwners(t *testing.T) {
	want := []Owner{{1, "Acme", "Organization"}, {9007199254740993, "Demo Source", "Source"}}
	list := `[{"id":1,"name":"Acme","type":"Organization"},{"id":"9007199254740993","name":"Demo Source","type":"Source"}]`
	for version, body := range map[int]string{
		3: `{"data":` + list + `,"count":2,"status":"Success"}`,
		2: `{"status":"Success","data":{"resultCount":2,"owner":` + list + `}}`,
	} {
		r := newRig(t, func(c *Config) { c.APIVersion, c.Owners = version, []string{"acme"} }, always(200, body))
		got, err := r.Owners(context.Background())
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("v%d: %v, %v", version, got, err)
		}
		if err := r.Check(context.Background()); err != nil {
			t.Error(err)
		}
		r.conf.Owners = append(r.conf.Owners, "Nobody")
		isFailure(t, r.Check(context.Background()), failure.Pause, ClassNoOwner)
	}
}

func TestExclusions(t *testing.T) {
	r := newRig(t, nil, always(200, `{"data":[
		{"id":1,"name":"a","active":true,"fixedValues":["b.example","a.example"],"variableValues":"*@bad.com\n10.0.0.0/8, 192.168.0.0/16"},
		{"id":2,"values":{"fixedValues":[{"value":"c.example"}],"variableValues":{"data":[{"value":"*.d.example"}],"count":1}}},
		{"id":3,"active":false,"fixedValues":["off.example"]},
		{"id":4,"fixedValues":{},"variableValues":null}],"status":"Success"}`))
	got, err := r.Exclusions(context.Background())
	if want := []string{"*.d.example", "*@bad.com", "10.0.0.0/8", "192.168.0.0/16", "a.example", "b.example", "c.example"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	old := newRig(t, nil, always(404, `{"errCode":"0x1004","status":"Error","message":"Not found"}`))
	if got, err := old.Exclusions(context.Background()); err != nil || got != nil {
		t.Errorf("%v, %v", got, err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"data":[{"type":"Host","summary":"evil.example","associatedGroups":{"data":[{"type":"Threat","name":"x"}]}}],"status":"Success"}`))
	f.Add([]byte(`{"status":"Success","data":{"resultCount":1,"address":{"ip":"1.2.3.4","webLink":"null/x"}}}`))
	f.Add([]byte(`[{"a":[[[`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var e envelope
		if json.Unmarshal(data, &e) != nil {
			return
		}
		v2, _ := entity(e.Data)
		c := &Client{base: testBase}
		x := c.index([]verdict.Query{{Type: indicator.Host, Value: "evil.example"}, {Type: indicator.Address, Value: "1.2.3.4"}})
		for _, list := range []json.RawMessage{e.Data, v2} {
			found := map[verdict.Query][]verdict.Verdict{}
			_ = each(list, 100, func(raw json.RawMessage) error {
				var i item
				if json.Unmarshal(raw, &i) != nil {
					return errList
				}
				c.collect(x, &i, "Host", found)
				v := i.verdict(testBase)
				for _, s := range []string{v.Owner, v.Description, v.Link} {
					if !utf8.ValidString(s) || strings.ContainsAny(s, "\x00\n\r\x1b") || len(s) > maxLink+len(testBase.origin()) {
						t.Fatalf("%q", s)
					}
				}
				if v.Rating < 0 || v.Rating > 5 || v.Confidence < 0 || v.Confidence > 100 {
					t.Fatalf("%+v", v)
				}
				return nil
			})
			_, _ = ownersOf(list)
			var all []string
			_ = exclusion(list, &all)
		}
	})
}

// Whole replies as public clients have recorded them: the platform's documentation
// and tcex (Apache 2.0), XSOAR's integration (MIT). Only the forms are theirs.
func TestRecordedRepliesOfPublicClients(t *testing.T) {
	v2 := func(c *Config) { c.APIVersion, c.Owners = 2, []string{"System"} }
	for name, test := range map[string]struct {
		edit  func(*Config)
		typ   indicator.Type
		value string
		body  string
		want  verdict.Verdict
		path  string // of the request that is answered so, "": any
	}{
		"XSOAR, v3": {
			nil, indicator.URL, "http://yourwebsite.com/opcache.php",
			`{"data":[{"id":40435508,"ownerName":"Technical Blogs and Reports","dateAdded":"2021-12-09T12:57:18Z","webLink":"https://partnerstage.threatconnect.com/auth/indicators/details/url.xhtml?orgid=40435508","type":"URL","lastModified":"2022-07-26T13:51:49Z","rating":3.00,"confidence":32,"source":"https://blog.sucuri.net/2021/12/x.html","summary":"http://yourwebsite.com/opcache.php"}],"status":"Success"}`,
			verdict.Verdict{Owner: "Technical Blogs and Reports", Rating: 3, Confidence: 32, ID: 40435508, Link: "https://partnerstage.threatconnect.com/auth/indicators/details/url.xhtml?orgid=40435508", Modified: time.Date(2022, 7, 26, 13, 51, 49, 0, time.UTC)},
			"",
		},
		"XSOAR's feed, with an id that is none": {
			nil, indicator.URL, "https://google.com",
			`{"data":[{"id":"xxxx","ownerName":"xxx","type":"URL","dateAdded":"2019-06-27T18:37:55Z","lastModified":"2019-06-27T18:37:55Z","rating":2.0,"confidence":75,"threatAssessRating":2.06,"threatAssessConfidence":75.0,"threatAssessScore":229,"webLink":"https://app.threatconnect.com/","summary":"https://google.com","observationCount":0,"falsePositiveCount":0,"privateFlag":false,"active":true,"activeLocked":true,"associatedIndicators":{"data":[{"summary":"summary","type":"type"}]}}],"status":"Success"}`,
			verdict.Verdict{Owner: "xxx", Rating: 2, Confidence: 75, Link: "https://app.threatconnect.com/", Modified: time.Date(2019, 6, 27, 18, 37, 55, 0, time.UTC)},
			"",
		},
		"the documentation, v3": {
			nil, indicator.Host, "ultrabadguy.com",
			`{"data":[{"id":4,"ownerId":1,"ownerName":"Demo Organization","dateAdded":"2023-01-26T21:00:03Z","webLink":"https://app.threatconnect.com/#/details/indicators/4/overview","type":"Host","lastModified":"2023-01-27T14:25:55Z","rating":5.00,"confidence":65,"threatAssessRating":4.0,"threatAssessConfidence":0.0,"threatAssessScore":405,"calScore":410,"summary":"ultrabadguy.com","privateFlag":false,"active":true,"activeLocked":false,"hostName":"ultrabadguy.com","dnsActive":false,"whoisActive":true,"legacyLink":"https://app.threatconnect.com/auth/x"}],"status":"Success"}`,
			verdict.Verdict{Owner: "Demo Organization", Rating: 5, Confidence: 65, ID: 4, Link: "https://app.threatconnect.com/#/details/indicators/4/overview", Modified: time.Date(2023, 1, 27, 14, 25, 55, 0, time.UTC)},
			"",
		},
		"tcex, v2": {
			v2, indicator.Address, "221.123.32.14",
			`{"status":"Success","data":{"address":{"id":4222035,"owner":{"id":1,"name":"System","type":"Organization"},"dateAdded":"2019-03-28T10:32:05-04:00","lastModified":"2019-03-28T11:02:46-04:00","rating":4,"confidence":90,"threatAssessRating":4,"threatAssessConfidence":90,"webLink":"{host}/auth/indicators/details/address.xhtml?address=221.123.32.14","ip":"221.123.32.14"}}}`,
			verdict.Verdict{Owner: "System", Rating: 4, Confidence: 90, ID: 4222035, Modified: time.Date(2019, 3, 28, 15, 2, 46, 0, time.UTC)},
			"/addresses/",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, test.edit, func(w http.ResponseWriter, req *http.Request) {
				if test.path == "" || strings.Contains(req.URL.Path, test.path) && !strings.HasSuffix(req.URL.Path, "/owners") {
					says(w, 200, test.body)
					return
				}
				owner := `{"id":1,"name":"` + test.want.Owner + `","type":"Organization"}`
				says(w, 200, `{"status":"Success","data":{"resultCount":1,"owner":[`+owner+`]}}`)
			})
			r.checked.Store(true)
			answers, err := r.Look(context.Background(), one(test.typ, test.value))
			if err != nil || len(answers) != 1 || len(answers[0].Verdicts) != 1 {
				t.Fatalf("%+v, %v, after %q", answers, err, r.requests())
			}
			test.want.Source = Name
			if got := answers[0].Verdicts[0]; fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", test.want) {
				t.Errorf("got  %+v\nwant %+v", got, test.want)
			}
		})
	}
}
