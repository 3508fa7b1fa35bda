package cloudshare

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"capagent/enrich/cloudsharetest"
	"capagent/internal/config"
	"capagent/internal/failure"
	"capagent/internal/httpx"
	"capagent/internal/standin"
)

func TestTheStandInTakesWhatTheClientSends(t *testing.T) {
	s := cloudsharetest.Start(t, cloudsharetest.Options{})
	s.Demo("files.vm.cld.sr", "203.0.113.66")
	c := quickClient(t, to(s))
	if err := c.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	body, err := c.get(t.Context(), envs, "brief", "false", "criteria", "allowed")
	if list := decodeEnvironments(body, false); err != nil || len(list) != 3 || list[0].Name != "Branch office" || list[0].StatusText != "Ready" || list[0].Owner != "" {
		t.Errorf("%v %+v", err, list)
	}
	if _, err = c.get(t.Context(), byVanity, "machineVanity", "other.vm.cld.sr"); failure.As(err).Kind != failure.Permanent || !isClass(err, ClassNotFound) {
		t.Errorf("%v", err)
	}
	for _, counted := range []string{"signature", "replay", "skew", "unknown", "forbidden", "parallel"} {
		if n := s.Counted(counted); n != 0 {
			t.Errorf("%s: %d", counted, n)
		}
	}
	if c.Calls() != 3 {
		t.Errorf("%d calls", c.Calls())
	}
}

func TestWhatAnswersMean(t *testing.T) {
	page := `<html><head><title>Login</title></head></html>`
	for _, test := range []struct {
		name   string
		status int
		kind   string
		body   string
		want   failure.Kind
		class  string
		text   string
	}{
		{"wrong key", 401, "application/json", `{"message":"Unauthorized","code":"0x40103"}`, failure.Pause, ClassBadCredentials, `CloudShare says 401 (0x40103): "Unauthorized"`},
		{"no right", 403, "application/json", `{"message":"Forbidden","code":"0x40301"}`, failure.Permanent, ClassNoPermission, ""},
		{"not found", 404, "application/json", `{"message":"User not found","code":"0x40401"}`, failure.Permanent, ClassNotFound, `says 404 (0x40401): "User not found"`},
		{"the code says it", 400, "application/json", `{"message":"User not found","code":"0x404fF"}`, failure.Permanent, ClassNotFound, "(0x404fF)"},
		{"a code that is none", 404, "application/json", `{"message":"x","code":"0x9\u001b[2J"}`, failure.Permanent, ClassNotFound, `says 404: "x"`},
		{"not found, by nobody", 404, "text/html", page, failure.Pause, ClassBadURL, "a web page"},
		{"wrong method", 405, "application/json", `{"message":"no","code":"0x40501"}`, failure.Permanent, ClassRefused, ""},
		{"too fast", 429, "application/json", `{"message":"slow down","code":42901}`, failure.Retry, ClassBusy, ""},
		{"a lack of rights", 500, "application/json", `{"message":"An error occurred","code":"0x50001"}`, failure.Permanent, ClassServerError, ""},
		{"not implemented", 501, "text/html", page, failure.Permanent, ClassServerError, ""},
		{"proxy", 502, "text/html", page, failure.Retry, ClassBusy, "a web page"},
		{"proxy, plainly", 504, "text/plain", "upstream " + strings.Repeat("x", 5000), failure.Retry, ClassBusy, "upstream xxx"},
		{"out of order", 503, "", ``, failure.Retry, ClassBusy, "without a message"},
		{"a portal", 200, "text/html", page, failure.Retry, ClassBadReply, "a web page"},
		{"no JSON", 200, "application/json", `{"password":"vmpass`, failure.Retry, ClassBadReply, "broken JSON"},
		{"another ping", 200, "application/json", `{"result":"no"}`, failure.Retry, ClassBadReply, "pong"},
		{"redirect", 302, "text/html", ``, failure.Pause, httpx.ClassRedirect, "elsewhere.example"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := cloudsharetest.New(cloudsharetest.Options{})
			n := 0
			base := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				n++
				w.Header().Set("Content-Type", test.kind)
				w.Header().Set("Retry-After", "7")
				w.Header().Set("Location", "https://elsewhere.example/")
				w.WriteHeader(test.status)
				fmt.Fprint(w, test.body)
			})
			c := quickClient(t, func(conf *Config) { to(s)(conf); conf.URL = base })
			f := isFailure(t, s, c.Ping(t.Context()), test.want, test.class)
			if !strings.Contains(f.Error(), test.text) || len(f.Error()) > 400 || strings.ContainsAny(f.Error(), "\x1b\n") {
				t.Errorf("%s", f.Error())
			}
			if n != 1 || test.want == failure.Retry && test.status != 200 && f.RetryAfter != 7*time.Second {
				t.Errorf("asked %d times, again after %v", n, f.RetryAfter)
			}
		})
	}
}

func TestAServerThatIsBusyForAMomentIsAskedTwice(t *testing.T) {
	s := cloudsharetest.Start(t, cloudsharetest.Options{})
	c := quickClient(t, to(s))
	s.SetFault(standin.Fault{Name: "status", Status: 503, Times: 1})
	if err := c.Ping(t.Context()); err != nil || s.Counted("requests") != 2 || s.Counted("replay") != 0 {
		t.Errorf("%v after %d requests", err, s.Counted("requests"))
	}
	s.SetFault(standin.Fault{Name: "status", Status: 503})
	s.Forget()
	isFailure(t, s, c.Ping(t.Context()), failure.Retry, ClassBusy)
	if n := s.Counted("requests"); n != 2 {
		t.Errorf("%d requests", n)
	}
}

func TestAWrongClockIsLearntFromTheServer(t *testing.T) {
	for _, ahead := range []time.Duration{-3 * time.Hour, 24 * time.Hour, 30 * time.Second, 5 * time.Second} {
		s := cloudsharetest.Start(t, cloudsharetest.Options{Now: func() time.Time { return time.Now().Add(ahead) }})
		c, log := loggedClient(t, to(s))
		for range 3 {
			if err := c.Ping(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		refused := map[bool]int{true: 1, false: 0}[ahead.Abs() > time.Minute]
		if n := s.Counted("requests"); n != 3+refused || s.Counted("skew") != refused {
			t.Errorf("%v: %d requests, %d refused", ahead, n, s.Counted("skew"))
		}
		warned := map[bool]int{true: 1, false: 0}[ahead.Abs() > maxSkew]
		if n := strings.Count(log.String(), "\n"); n != warned {
			t.Errorf("%v: %s", ahead, log)
		}
	}
}

func TestARefusedKeyIsNotShown(t *testing.T) {
	s := cloudsharetest.Start(t, cloudsharetest.Options{})
	c := quickClient(t, to(s))
	s.SetFault(standin.Fault{Name: "echo"})
	isFailure(t, s, c.Ping(t.Context()), failure.Permanent, ClassServerError)
	s.SetFault(standin.Fault{Name: "status", Status: 400, Text: "bad key " + s.APIKey})
	isFailure(t, s, c.Ping(t.Context()), failure.Permanent, ClassRefused)
}

func TestOneRequestASecondAndOneAtATime(t *testing.T) {
	s := cloudsharetest.Start(t, cloudsharetest.Options{})
	c := quickClient(t, to(s))
	c.pace = 50 * time.Millisecond
	var g sync.WaitGroup
	for range 8 {
		g.Go(func() {
			if err := c.Ping(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	g.Wait()
	if n := s.Counted("parallel"); n != 0 {
		t.Errorf("%d came while another was under way", n)
	}
	list := s.Requests()
	if took := list[7].At.Sub(list[0].At); took < 330*time.Millisecond {
		t.Errorf("8 requests within %v", took)
	}
	if New, err := New(c.conf, "test", c.log); err != nil || New.pace != time.Second {
		t.Errorf("%v %v", New.pace, err)
	}
}

func TestTheDayHasItsCalls(t *testing.T) {
	s := cloudsharetest.Start(t, cloudsharetest.Options{})
	c := quickClient(t, func(conf *Config) { to(s)(conf); conf.DailyCalls = 50 })
	now := time.Now()
	c.now = func() time.Time { return now }
	for range 45 {
		if err := c.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	f := isFailure(t, s, c.Ping(t.Context()), failure.Retry, ClassBudget)
	if f.RetryAfter != day || s.Counted("requests") != 45 {
		t.Errorf("again after %v, %d requests", f.RetryAfter, s.Counted("requests"))
	}
	now = now.Add(day)
	if err := c.Ping(t.Context()); err != nil && !isClass(err, ClassBadCredentials) { // the stand-in's clock did not move
		t.Error(err)
	}
	if n := c.Calls(); n > 2 {
		t.Errorf("%d calls of the new day", n)
	}
}

func TestADeadlineEndsARequestAtOnce(t *testing.T) {
	s := cloudsharetest.Start(t, cloudsharetest.Options{})
	c := quickClient(t, to(s))
	for _, fault := range []standin.Fault{{Name: "hang"}, {Name: "dribble", Delay: 20 * time.Millisecond}, {Name: "slow", Delay: 10 * time.Second}} {
		s.SetFault(fault)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		begun := time.Now()
		f := isFailure(t, s, c.Ping(ctx), failure.Retry, ClassNoAnswer)
		if took := time.Since(begun); took > slack || !errors.Is(f, context.DeadlineExceeded) {
			t.Errorf("%s: took %v, %v", fault.Name, took, f)
		}
		cancel()
	}
	// Waiting for a turn is nobody's fault.
	s.ClearFaults()
	c.pace = time.Hour
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	isFailure(t, s, c.Ping(ctx), failure.Retry, httpx.ClassCanceled)
}

func TestAnEndlessReplyIsCut(t *testing.T) {
	s := cloudsharetest.Start(t, cloudsharetest.Options{})
	c := quickClient(t, to(s))
	s.SetFault(standin.Fault{Name: "huge"})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f := isFailure(t, s, c.Ping(t.Context()), failure.Retry, ClassBadReply)
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 120<<20 || !strings.Contains(f.Error(), "16777216") {
		t.Errorf("%d bytes were allocated: %v", grown, f)
	}
}

func TestValidate(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*Config)
		key    string // "" when it is right
		text   string
	}{
		{"the defaults", func(*Config) {}, "", ""},
		{"plain http to this machine", func(c *Config) { c.URL = "http://127.0.0.1:8080/api/v3" }, "", ""},
		{"plain http that is allowed", func(c *Config) { c.URL, c.AllowHTTP = "http://lab.example/api/v3", true }, "", ""},
		{"everything", func(c *Config) {
			c.Domains, c.Pinned, c.PreserveAllow, c.Preserve = []string{"a.b"}, []string{"Web Test", "EN1"}, []string{"EN1-_x"}, true
		}, "", ""},
		{"plain http", func(c *Config) { c.URL = "http://lab.example/api/v3" }, "url", "allow_http"},
		{"no protocol", func(c *Config) { c.URL = "use.cloudshare.com" }, "url", "full URL"},
		{"a query", func(c *Config) { c.URL = DefaultURL + "?k=" + testKey }, "url", "no query"},
		{"a user name", func(c *Config) { c.URL = "https://me:" + testKey + "@lab.example/" }, "url", "user name"},
		{"a path that goes up", func(c *Config) { c.URL = "https://lab.example/x/../api" }, "url", "plain words"},
		{"a host of blanks", func(c *Config) { c.URL = "https://a%20b/" }, "url", "full URL"},
		{"an id with a semicolon", func(c *Config) { c.APIID = "a;b" }, "api_id", "letters"},
		{"a key with a line end", func(c *Config) { c.APIKey.UnmarshalText([]byte(testKey + "\n")) }, "api_key", "without blanks"},
		{"a domain without a dot", func(c *Config) { c.Domains = []string{"vm.cld.sr", "com"} }, "domains", "entry 2"},
		{"a domain in capitals", func(c *Config) { c.Domains = []string{"VM.cld.sr"} }, "domains", "lower case"},
		{"many domains", func(c *Config) { c.Domains = make([]string, 101) }, "domains", "at most"},
		{"an environment of no name", func(c *Config) { c.Pinned = []string{""} }, "pinned", "entry 1"},
		{"other criteria", func(c *Config) { c.Criteria = "all" }, "criteria", "allvisible"},
		{"often", func(c *Config) { c.InventoryEvery = config.Duration(time.Minute) }, "inventory_every", "15m"},
		{"few calls", func(c *Config) { c.DailyCalls = 1 }, "daily_calls", "50 to"},
		{"a short timeout", func(c *Config) { c.Timeout = 0 }, "timeout", "1s"},
		{"a bad pin", func(c *Config) { c.Pins = []string{"x"} }, "pins", "sha256/"},
		{"an id that is a path", func(c *Config) { c.PreserveAllow = []string{"EN1/.."} }, "preserve_allow", "entry 1"},
		{"preserving anything", func(c *Config) { c.Preserve = true }, "preserve_allow", "ids"},
		{"preserving often", func(c *Config) { c.PreserveCooldown = 0 }, "preserve_cooldown", "10m"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := DefaultConfig()
			test.change(&c)
			wrong := c.Validate()
			if test.key == "" {
				if len(wrong) > 0 {
					t.Fatal(config.Errors(wrong))
				}
				return
			}
			if len(wrong) != 1 || wrong[0].Key != "cloudshare."+test.key || !strings.Contains(wrong[0].Error(), test.text) || strings.Contains(wrong[0].Error(), testKey) {
				t.Fatalf("got %v", config.Errors(wrong))
			}
		})
	}
}

func TestMissing(t *testing.T) {
	c := DefaultConfig()
	if missing := c.Missing(); len(missing) != 2 || missing[0].Key != "cloudshare.api_id" || missing[1].Key != "cloudshare.api_key" {
		t.Errorf("%v", missing)
	}
	if _, err := New(c, "test", quickClient(t, to(cloudsharetest.New(cloudsharetest.Options{BaseURL: "https://x.example"}))).log); err == nil {
		t.Error("a client without credentials")
	}
}
