package upload

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"capagent/internal/config"
	"capagent/internal/failure"
	"capagent/upload/cloudsharktest"
)

// TestEveryFault meets each way in which the emulator can misbehave: the failure
// has the right class and text, the file stays, and in the end there is exactly
// one session.
func TestEveryFault(t *testing.T) {
	const idle = 300 * time.Millisecond
	for _, test := range []struct {
		fault string // for ParseFault
		class string
		kind  failure.Kind
		text  string
	}{
		{"status", ClassServerError, failure.Retry, `CloudShark says 500: "Something went wrong"`},
		{"status:code=404,text=API Token is missing or invalid,text=And more", ClassBadToken, failure.Pause, `"API Token is missing or invalid", "And more"`},
		{"status:code=413,text=x", ClassTooLarge, failure.Permanent, "413"},
		{"status:code=402,text=x", ClassQuota, failure.Pause, "402"},
		{"status:code=507,text=x", ClassQuota, failure.Pause, "507"},
		{"status:code=415,text=x", ClassNotCapture, failure.Permanent, "415"},
		{"status:code=422,text=x", ClassNotCapture, failure.Permanent, "422"},
		{"bad-token", ClassBadToken, failure.Pause, `CloudShark says 404: "API Token is missing or invalid"`},
		{"bad-token:early=true", ClassBadToken, failure.Pause, `CloudShark says 404: "API Token is missing or invalid"`},
		{"login", ClassLoginNeeded, failure.Pause, `CloudShark says 401: "Must be logged in to use token"`},
		{"forbidden", ClassNoPermission, failure.Pause, `CloudShark says 403: "API Token cannot execute API method"`},
		{"too-large", ClassTooLarge, failure.Permanent, `CloudShark says 413: "Capture file is too large"`},
		{"too-large:code=400", ClassTooLarge, failure.Permanent, `CloudShark says 400: "Capture file is too large"`},
		{"too-large:early=true", ClassTooLarge, failure.Permanent, `CloudShark says 413`},
		{"quota", ClassQuota, failure.Pause, `CloudShark says 403: "Upload quota reached"`},
		{"quota:code=500", ClassQuota, failure.Pause, `CloudShark says 500: "Upload quota reached"`},
		{"not-capture", ClassNotCapture, failure.Permanent, `CloudShark says 400: "File is not a valid capture file"`},
		{"busy", ClassBusy, failure.Retry, `CloudShark says 503: "Server is busy, try again later"`},
		{"busy:code=429", ClassBusy, failure.Retry, "429"},
		{"error", ClassServerError, failure.Retry, "answered 500 with a web page instead of CloudShark's JSON"},
		{"error:code=502", ClassBusy, failure.Retry, "answered 502 with a web page"},
		{"error:code=404", ClassBadURL, failure.Pause, "answered 404 with a web page"},
		{"error:code=403", ClassNoPermission, failure.Pause, "answered 403 with a web page"},
		{"hang", "network", failure.Retry, "no byte moved"},
		{"hang-early", "network", failure.Retry, "no byte moved"},
		{"reset-mid-body", "network", failure.Retry, "the connection was cut"},
		{"accept-drop", "network", failure.Retry, "closed the connection without a whole answer"},
		{"accept-drop:rst=true", "network", failure.Retry, "the connection was cut"},
		{"accept-hang", "network", failure.Retry, "no byte moved"},
		{"html-200", ClassBadReply, failure.Retry, "answered 200 with a web page instead of CloudShark's JSON"},
		{"html-200:accept=true", ClassBadReply, failure.Retry, "answered 200 with a web page"},
		{"html-200:early=true", ClassBadReply, failure.Retry, "before it had the whole request"},
		{"bad-id", ClassBadReply, failure.Retry, "no valid session id"},
		{"bad-id:text=F27D1494400C", ClassBadReply, failure.Retry, "no valid session id"},
		{"bad-id:accept=true", ClassBadReply, failure.Retry, "no valid session id"},
		{"huge-reply", ClassBadReply, failure.Retry, "longer than 1048576 bytes"},
		{"redirect", "redirect", failure.Pause, `points to "https://elsewhere.invalid"`},
		{"redirect:code=307,to=/api/v1/{token}/upload", "redirect", failure.Pause, "points to"},
		{"redirect:code=301,to=https://{token}.evil.invalid/", "redirect", failure.Pause, "***.evil.invalid"},
		{"echo-token", ClassServerError, failure.Retry, `/api/v1/***/upload`},
		{"echo-token:code=404", ClassBadToken, failure.Pause, `/api/v1/***/upload`},
		{"truncated-json", ClassBadReply, failure.Retry, "answered 200 with broken JSON"},
		{"slow-reply", ClassBadReply, failure.Retry, "did not end"},
	} {
		for _, method := range []string{MethodPut, MethodPost} {
			t.Run(test.fault+" by "+method, func(t *testing.T) {
				t.Parallel()
				fault, err := cloudsharktest.ParseFault(test.fault)
				if err != nil {
					t.Fatal(err)
				}
				fault.Method, fault.Times = "upload", 1
				if fault.Name == "slow-reply" {
					fault.Delay = idle / 10
				}
				r := newRig(t, func(_ *cloudsharktest.Options, c *Config) { c.Method = method })
				if strings.Contains("hang hang-early accept-hang slow-reply", fault.Name) {
					shorten(t, r, idle)
				}
				r.SetFault(fault)
				c := capture(t, pcap(1100, 1000)) // above minExpect
				_, err = r.step.Run(t.Context(), c)
				wants(t, err, test.class, test.kind, test.text)
				if r.sent.Load() != 0 {
					t.Errorf("%d bytes are still counted", r.sent.Load())
				}
				if f, err := open(&c); err != nil {
					t.Errorf("the file is gone: %v", err)
				} else {
					_ = f.Close()
				}
				r.restart(t, r.step.opts.Config)
				result := r.persist(t, c)
				s, _ := r.stored(t)
				if result.SessionID != s.ID || result.PossibleDuplicate || s.SHA256 != c.SHA256 {
					t.Errorf("%+v for %+v", result, s)
				}
			})
		}
	}
}

// shorten sets the idle timeout below what Validate allows a user.
func shorten(t *testing.T, r *rig, idle time.Duration) {
	t.Helper()
	c := r.step.opts.Config
	c.Timeout = config.Duration(idle)
	h, err := newHTTP(c, "1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	r.step.opts.Client.http = h
}

func TestRetryAfterIsPassedOnWithinBounds(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"120": 2 * time.Minute, "1000000000": time.Hour, "-5": 0, "soon": 0, "Thu, 01 Jan 1970 00:00:00 GMT": 0, "Fri, 01 Jan 2100 00:00:00 GMT": time.Hour,
	} {
		for _, status := range []int{429, 503} {
			r := newRig(t)
			r.SetFault(cloudsharktest.Fault{Name: "busy", Status: status, RetryAfter: value})
			_, err := r.step.Run(t.Context(), capture(t, pcap(3, 60)))
			if got := failure.As(err).RetryAfter; got != want {
				t.Errorf("Retry-After %q with %d gives %s, want %s", value, status, got, want)
			}
		}
	}
}

func TestAQuotaThatIsFullAndEmptiedAgain(t *testing.T) {
	r := newRig(t, func(o *cloudsharktest.Options, _ *Config) { o.MaxSessions = 1 })
	if _, err := r.step.Run(t.Context(), capture(t, pcap(3, 60))); err != nil {
		t.Fatal(err)
	}
	_, err := r.step.Run(t.Context(), capture(t, pcap(4, 60)))
	wants(t, err, ClassQuota, failure.Pause, "CloudShark says")
}

func TestSizeLimitIsKnownBeforeTheBodyIsSent(t *testing.T) {
	r := newRig(t, func(o *cloudsharktest.Options, _ *Config) { o.MaxSize = 1 << 20 })
	_, err := r.step.Run(t.Context(), capture(t, pcap(30000, 1000)))
	wants(t, err, ClassTooLarge, failure.Permanent, "413")
	if n := r.Requests()[0].BodyBytes; n != 0 {
		t.Errorf("%d bytes were sent for nothing", n)
	}
}

func TestWrongTokens(t *testing.T) {
	login := cloudsharktest.Token{Value: canary, LoginUser: "u", LoginPassword: "p"}
	readOnly := cloudsharktest.Token{Value: canary, Permissions: []cloudsharktest.Permission{cloudsharktest.Search, cloudsharktest.Info}}
	other := cloudsharktest.Token{Value: "00000000000000000000000000000000"}
	for _, test := range []struct {
		name  string
		token cloudsharktest.Token
		class string
		ping  string // class of Ping's failure, "" when the token is valid
	}{
		{"unknown", other, ClassBadToken, ClassBadToken},
		{"wants a login", login, ClassLoginNeeded, ClassLoginNeeded},
		{"may not upload", readOnly, ClassNoPermission, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t, func(o *cloudsharktest.Options, _ *Config) { o.Tokens = []cloudsharktest.Token{test.token} })
			_, err := r.step.Run(t.Context(), capture(t, pcap(3, 60)))
			wants(t, err, test.class, failure.Pause, "CloudShark says")
			_, err = r.step.opts.Client.Ping(t.Context())
			if test.ping != "" {
				wants(t, err, test.ping, failure.Pause, "CloudShark says")
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestPing(t *testing.T) {
	uploadOnly := cloudsharktest.Token{Value: canary, Permissions: []cloudsharktest.Permission{cloudsharktest.Upload}}
	for _, test := range []struct {
		name   string
		token  cloudsharktest.Token
		search bool
	}{
		{"a token for everything", cloudsharktest.Token{Value: canary}, true},
		{"a token that may only upload", uploadOnly, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t, func(o *cloudsharktest.Options, _ *Config) { o.Tokens = []cloudsharktest.Token{test.token} })
			if search, err := r.step.opts.Client.Ping(t.Context()); err != nil || search != test.search {
				t.Errorf("Ping = %v, %v", search, err)
			}
		})
	}
	r := newRig(t)
	r.SetFault(cloudsharktest.Fault{Name: "html-200"})
	_, err := r.step.opts.Client.Ping(t.Context())
	wants(t, err, ClassBadReply, failure.Retry, "check \""+r.URL+"\"")
}

func TestFindWhereTheTokenMayNotSearch(t *testing.T) {
	for name, permissions := range map[string][]cloudsharktest.Permission{
		"neither search nor info": {cloudsharktest.Upload},
		"search without info":     {cloudsharktest.Upload, cloudsharktest.Search},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, func(o *cloudsharktest.Options, _ *Config) {
				o.Tokens = []cloudsharktest.Token{{Value: canary, Permissions: permissions}}
			})
			r.SetFault(cloudsharktest.Fault{Name: "accept-drop", Times: 1})
			c := capture(t, pcap(3, 60))
			if _, err := r.step.Run(t.Context(), c); err == nil {
				t.Fatal("no error")
			}
			result := r.persist(t, c)
			if !result.PossibleDuplicate || !r.ledger.parts[c.ID][0].PossibleDuplicate {
				t.Errorf("%+v is not marked", result)
			}
			if len(r.Sessions()) != 2 {
				t.Errorf("%d sessions", len(r.Sessions()))
			}
		})
	}
}

func TestFindLooksAtTheContent(t *testing.T) {
	r := newRig(t)
	c := capture(t, pcap(3, 60))
	if _, err := r.step.Run(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	name := r.Sessions()[0].Filename
	client := r.step.opts.Client
	for _, noSHA1 := range []bool{false, true} {
		if noSHA1 {
			r.SetFault(cloudsharktest.Fault{Name: "no-sha1"})
		}
		s, ok, err := client.Find(t.Context(), name, c.Size, c.SHA1, c.Packets)
		if err != nil || !ok || s.ID != r.Sessions()[0].ID || s.URL != r.SessionURL(s.ID) {
			t.Errorf("Find = %+v, %v, %v", s, ok, err)
		}
		sha1, packets := "0000000000000000000000000000000000000000", c.Packets
		if noSHA1 {
			packets++
		}
		for _, size := range []int64{c.Size, c.Size + 1} {
			if _, ok, err = client.Find(t.Context(), name, size, sha1, packets); ok || !errors.Is(err, ErrOtherContent) {
				t.Errorf("other content: %v, %v", ok, err)
			}
		}
		if _, ok, err = client.Find(t.Context(), name, c.Size-1, c.SHA1, c.Packets); ok || !errors.Is(err, ErrOtherContent) {
			t.Errorf("another size: %v, %v", ok, err)
		}
		for _, other := range []string{name[:len(name)-1], "no such name"} {
			if _, ok, err = client.Find(t.Context(), other, c.Size, c.SHA1, c.Packets); ok || err != nil {
				t.Errorf("Find(%q) = %v, %v", other, ok, err)
			}
		}
	}
}

func TestASessionOfOtherContentMarksADuplicate(t *testing.T) {
	r := newRig(t)
	c := capture(t, pcap(3, 60))
	_, err := r.step.opts.Client.Upload(t.Context(), Upload{
		Name: sessionName(r.step.opts.Config.Name, "sensor1", &c, 1, 1), Size: 24,
		Body: opened(pcap(0, 0)),
	})
	if err != nil {
		t.Fatal(err)
	}
	if result := r.persist(t, c); !result.PossibleDuplicate || len(r.Sessions()) != 2 {
		t.Errorf("%+v, %d sessions", result, len(r.Sessions()))
	}
}

func TestNothingIsSentWhileFindCanNotTell(t *testing.T) {
	for _, name := range []string{"hang", "status", "html-200", "busy", "huge-reply", "bad-token", "redirect"} {
		for _, method := range []string{"search", "info"} {
			t.Run(fmt.Sprint(name, " at ", method), func(t *testing.T) {
				r := newRig(t)
				if name == "hang" {
					shorten(t, r, 300*time.Millisecond)
				}
				r.SetFault(cloudsharktest.Fault{Name: "accept-drop", Times: 1})
				c := capture(t, pcap(3, 60))
				if _, err := r.step.Run(t.Context(), c); err == nil {
					t.Fatal("no error")
				}
				r.SetFault(cloudsharktest.Fault{Name: name, Method: method, Times: 2})
				for range 2 {
					if _, found, err := r.step.Find(t.Context(), c); err == nil || found {
						t.Errorf("Find = %v, %v", found, err)
					}
				}
				result := r.persist(t, c)
				if s, _ := r.stored(t); result.SessionID != s.ID || result.PossibleDuplicate {
					t.Errorf("result %+v", result)
				}
			})
		}
	}
}

func TestCancellingAnUpload(t *testing.T) {
	r := newRig(t)
	ctx, cancel := context.WithCancel(t.Context())
	r.step.opts.OnBytes = func(int64) { cancel() }
	_, err := r.step.Run(ctx, capture(t, pcap(20000, 1000)))
	if !errors.Is(err, context.Canceled) || failure.As(err).Kind != failure.Retry {
		t.Errorf("got %v", err)
	}
	if n := len(r.Sessions()); n != 0 {
		t.Errorf("%d sessions", n)
	}
}

func TestAnUnreachableServer(t *testing.T) {
	r := newRig(t)
	c := r.step.opts.Config
	c.URL = "http://127.0.0.1:1"
	r.restart(t, c)
	_, err := r.step.Run(t.Context(), capture(t, pcap(3, 60)))
	wants(t, err, "network", failure.Retry, "connect to 127.0.0.1:1: ")
}
