package cloudtraxtest_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"capagent/enrich/cloudtraxtest"
	"capagent/enrich/device"
	"capagent/internal/standin"
)

// call signs as the contract says, apart from the agent's own signer.
type call struct {
	method, target, body string
	version, key, secret string
	at                   time.Time
	nonce                string
	signed               string // target that is signed; "": the one that is sent
	signature            string // instead of the right one
}

func do(t *testing.T, s *cloudtraxtest.Server, c call) (int, string) {
	t.Helper()
	or := func(a, b string) string {
		if a == "" {
			return b
		}
		return a
	}
	if c.at.IsZero() {
		c.at = time.Now()
	}
	who := fmt.Sprintf("key=%s,timestamp=%d,nonce=%s", or(c.key, s.Key), c.at.Unix(), or(c.nonce, standin.Random(16)))
	mac := hmac.New(sha256.New, []byte(or(c.secret, s.Secret)))
	mac.Write([]byte(who + or(c.signed, c.target) + c.body))
	req, err := http.NewRequest(or(c.method, "GET"), s.URL+c.target, strings.NewReader(c.body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", who)
	req.Header.Set("Signature", or(c.signature, hex.EncodeToString(mac.Sum(nil))))
	if c.signature == "none" {
		req.Header.Del("Signature")
	}
	req.Header.Set("OpenMesh-API-Version", or(c.version, "1"))
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(data)
}

func TestItIsStrict(t *testing.T) {
	s := cloudtraxtest.Start(t, cloudtraxtest.Options{})
	s.Demo()
	now := time.Now()
	for name, tc := range map[string]struct {
		call call
		want string
	}{
		"well signed":                {call{target: "/network/list"}, `"networks"`},
		"the query is signed":        {call{target: "/history/network/12345/clients?period=day"}, "reception-ipad"},
		"the query is not signed":    {call{target: "/history/network/12345/clients?period=day", signed: "/history/network/12345/clients"}, "13000"},
		"another form is signed":     {call{target: "/history/network/12345/clients?period=%64ay", signed: "/history/network/12345/clients?period=day"}, "13000"},
		"another secret":             {call{target: "/network/list", secret: "x"}, "13000"},
		"another key":                {call{target: "/network/list", key: "x"}, "13011"},
		"no signature":               {call{target: "/network/list", signature: "none"}, "13015"},
		"upper case":                 {call{target: "/network/list", signature: strings.Repeat("AB", 32)}, "13000"},
		"another version":            {call{target: "/network/list", version: "0"}, "13004"},
		"a long nonce":               {call{target: "/network/list", nonce: strings.Repeat("x", 33)}, "13012"},
		"late by 14 minutes":         {call{target: "/network/list", at: now.Add(-14 * time.Minute)}, "networks"},
		"late by 16 minutes":         {call{target: "/network/list", at: now.Add(-16 * time.Minute)}, "13002"},
		"early by 16 minutes":        {call{target: "/network/list", at: now.Add(16 * time.Minute)}, "13002"},
		"a path that is not there":   {call{target: "/network/12345/nothing"}, "1002"},
		"a network of others":        {call{target: "/node/network/99/list"}, "1004"},
		"a method that is not there": {call{target: "/network/list", method: "DELETE"}, "1002"},
		"the time":                   {call{target: "/time"}, now.UTC().Format("2006-01-02T")},
		"settings hold secrets":      {call{target: "/network/12345/settings"}, cloudtraxtest.Secrets()[0]},
		"switches hold secrets":      {call{target: "/switch/7788"}, cloudtraxtest.Secrets()[4]},
		"block nobody":               {call{target: "/client/network/12345/block", method: "PUT", body: `{"block":1,"client_ids":[]}`}, "11000"},
		"block somebody unknown":     {call{target: "/client/network/12345/block", method: "PUT", body: `{"block":1,"client_ids":["x"]}`}, "1017"},
		"block without a word":       {call{target: "/client/network/12345/block", method: "PUT", body: `{}`}, "1005"},
	} {
		if _, body := do(t, s, tc.call); !strings.Contains(body, tc.want) {
			t.Errorf("%s: %.300s", name, body)
		}
	}
	again := call{target: "/network/list", nonce: "once"}
	do(t, s, again)
	if status, body := do(t, s, again); status == 200 || !strings.Contains(body, "13003") || s.Counted("replay") != 1 {
		t.Errorf("%d %s", status, body)
	}
	for _, r := range s.Requests() {
		if r.Header.Get("Signature") != "***" && r.Header.Get("Signature") != "" || r.Header.Get("Authorization") != "***" {
			t.Errorf("%v", r.Header)
		}
	}
}

func TestForbiddenCallsAreCountedWhateverTheirMethod(t *testing.T) {
	s := cloudtraxtest.Start(t, cloudtraxtest.Options{})
	s.Demo()
	n := 0
	for _, target := range []string{
		"/node/1/reboot", "/node/1/reset_encrypt_key", "/node/1/enable_pairing", "/node/1/expedite_upgrade",
		"/switch/7788/reboot", "/switch/7788/port/2/reset", "/switch/7788/enable_pairing", "/switch/7788/expedite_upgrade",
		"/powerstrip/1/reboot", "/powerstrip/1/port/2/reset", "/powerstrip/1/enable_pairing", "/powerstrip/1/expedite_upgrade",
		"/sitesurvey/network/12345/scan", "/account/credential/12345/embed", "/node/1/reboot?x=1", "/node/%31/reboot",
	} {
		for _, method := range []string{"GET", "PUT", "POST", "DELETE"} {
			status, _ := do(t, s, call{target: target, method: method})
			if n++; status == 200 || s.Counted("forbidden") != n {
				t.Errorf("%s %s: %d, %d counted of %d", method, target, status, s.Counted("forbidden"), n)
			}
		}
	}
}

func TestBlocking(t *testing.T) {
	mac := device.MAC{0, 0, 0x5e, 0, 0x53, 9}
	s := cloudtraxtest.Start(t, cloudtraxtest.Options{})
	s.Demo(mac)
	s.AddClient(cloudtraxtest.Client{Network: 12345, MAC: mac, CID: "31792"})
	put := func(block int) string {
		_, body := do(t, s, call{method: "PUT", target: "/client/network/12345/block", body: fmt.Sprintf(`{"block":%d,"client_ids":["31792"]}`, block)})
		return body
	}
	if body := put(1); !strings.Contains(body, "1009") || len(s.Blocked()) != 1 || s.Counted("block") != 1 {
		t.Errorf("%s %v", body, s.Blocked())
	}
	if _, body := do(t, s, call{target: "/client/network/12345/block"}); !strings.Contains(strings.ToLower(body), mac.String()) {
		t.Error(body)
	}
	if body := put(0); !strings.Contains(body, "1009") || len(s.Blocked()) != 0 {
		t.Errorf("%s %v", body, s.Blocked())
	}
	s = cloudtraxtest.Start(t, cloudtraxtest.Options{ReadOnly: true})
	s.Demo(mac)
	if body := put(1); !strings.Contains(body, "13006") {
		t.Error(body)
	}
}

func TestThePageShowsNoSecret(t *testing.T) {
	s := cloudtraxtest.Start(t, cloudtraxtest.Options{})
	s.Demo()
	do(t, s, call{target: "/network/12345/settings"})
	resp, err := http.Get(s.URL + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, _ := io.ReadAll(resp.Body)
	for _, want := range []string{"CloudTrax", "reception-ipad", "Front office", "HQ-Staff", "/settings"} {
		if !strings.Contains(string(data), want) {
			t.Errorf("no %s", want)
		}
	}
	for _, hidden := range append(cloudtraxtest.Secrets(), s.Secret) {
		if strings.Contains(string(data), hidden) {
			t.Errorf("%s is shown", hidden)
		}
	}
	for _, k := range cloudtraxtest.Kinds() {
		if f, err := cloudtraxtest.ParseFault(k.Name); err != nil || f.Name != k.Name {
			t.Errorf("%s: %v", k.Name, err)
		}
	}
}
