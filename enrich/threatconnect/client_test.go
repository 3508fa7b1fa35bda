package threatconnect

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"capagent/enrich/indicator"
	"capagent/internal/failure"
	"capagent/internal/httpx"
	"capagent/internal/secret"
)

func TestWhatAnswersMean(t *testing.T) {
	page := `<html><head><title>Login ` + testKey + `</title></head></html>`
	for _, test := range []struct {
		name   string
		status int
		kind   string
		body   string
		want   failure.Kind
		class  string
	}{
		{"wrong signature", 401, "application/json", `{"status":"Failure","message":"Signature data did not match expected result"}`, failure.Pause, ClassBadCredentials},
		{"v3 unauthorized", 401, "application/json", `{"errCode":"0x1002","message":"Unauthorized","status":"Error"}`, failure.Pause, ClassBadCredentials},
		{"unauthorized in HTML", 401, "text/html", page, failure.Pause, ClassBadCredentials},
		{"clock", 401, "application/json", `{"status":"Failure","message":"Timestamp out of acceptable time range"}`, failure.Pause, ClassClock},
		{"licence", 503, "application/json", `{"status":"Failure","message":"API access has not been licensed for this system, please contact"}`, failure.Pause, ClassNoLicence},
		{"forbidden", 403, "application/json", `{"errCode":"0x1003","message":"Access Denied","status":"Error"}`, failure.Pause, ClassNoPermission},
		{"owner", 404, "application/json", `{"status":"Failure","message":"The requested owner was not found"}`, failure.Pause, ClassNoOwner},
		{"no such path", 404, "text/html", page, failure.Pause, ClassBadURL},
		{"no such path, v2's text", 500, "text/plain", "Could not find resource for relative : /v9/owners", failure.Pause, ClassBadURL},
		{"too fast", 429, "text/html", page, failure.Retry, ClassBusy},
		{"proxy", 502, "text/html", page, failure.Retry, ClassBusy},
		{"out of order", 503, "application/json", `{"status":"Failure"}`, failure.Retry, ClassBusy},
		{"broken", 500, "application/json", `{"status":"Failure","message":"An unknown error occurred"}`, failure.Retry, ClassServerError},
		{"broken, plainly", 500, "text/plain", "stack trace", failure.Retry, ClassServerError},
		{"a portal", 200, "text/html", page, failure.Retry, ClassBadReply},
		{"no JSON", 200, "application/json", `{"status":"Suc`, failure.Retry, ClassBadReply},
		{"nothing", 200, "application/json", ``, failure.Retry, ClassBadReply},
		{"a list", 200, "application/json", `[]`, failure.Retry, ClassBadReply},
		{"a failure that is 200, v2", 200, "application/json", `{"status":"Failure","message":"An unknown error occurred"}`, failure.Retry, ClassBadReply},
		{"a failure that is 200, v3", 200, "application/json", `{"status":"Error","message":"x"}`, failure.Retry, ClassBadReply},
		{"no status", 200, "application/json", `{"data":[]}`, failure.Retry, ClassBadReply},
		{"no data", 200, "application/json", `{"status":"Success"}`, failure.Retry, ClassBadReply},
		{"a list that is none", 200, "application/json", `{"status":"Success","data":"x"}`, failure.Retry, ClassBadReply},
		{"items that are none", 200, "application/json", `{"status":"Success","data":[1]}`, failure.Retry, ClassBadReply},
		{"redirect", 302, "text/html", ``, failure.Pause, httpx.ClassRedirect},
	} {
		for _, version := range []int{3, 2} {
			if version == 2 && strings.HasPrefix(test.name, "items") {
				continue // one item: answered as not understood, see below
			}
			t.Run(fmt.Sprintf("%s v%d", test.name, version), func(t *testing.T) {
				r := newRig(t, func(c *Config) { c.APIVersion = version }, func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Type", test.kind)
					w.Header().Set("Retry-After", "7")
					w.Header().Set("Location", "https://elsewhere.example/")
					w.WriteHeader(test.status)
					fmt.Fprint(w, test.body)
				})
				answers, err := r.Look(context.Background(), one(indicator.Host, "evil.example"))
				f := isFailure(t, err, test.want, test.class)
				if len(answers) != 0 {
					t.Errorf("answers: %v", answers)
				}
				if test.want == failure.Retry && f.RetryAfter != 7*time.Second && !strings.Contains(test.body, "Success") {
					t.Errorf("RetryAfter %s", f.RetryAfter)
				}
				if n := len(r.requests()); n != 1 {
					t.Errorf("%d requests: %v", n, r.requests())
				}
				if strings.Contains(r.log.String(), testKey) {
					t.Error("the log shows the key")
				}
			})
		}
	}
}

func TestARefusedKeyIsNotShown(t *testing.T) {
	r := newRig(t, nil, func(w http.ResponseWriter, req *http.Request) {
		says(w, 400, fmt.Sprintf(`{"status":"Failure","message":%q}`, "bad: "+testKey+" and "+req.Header.Get("Authorization")))
	})
	_, err := r.Look(context.Background(), one(indicator.Host, "evil.example"))
	isFailure(t, err, failure.Permanent, ClassBadQuery)
	if strings.Contains(err.Error(), "TC "+testID+":") {
		t.Errorf("the error shows a signature: %v", err)
	}
}

// skewed refuses requests whose Timestamp is more than five minutes from a clock
// that is ahead of this machine's.
func skewed(ahead time.Duration, dated bool, then http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		now := time.Now().Add(ahead)
		w.Header()["Date"] = nil
		if dated {
			w.Header().Set("Date", now.UTC().Format(http.TimeFormat))
		}
		unix, _ := strconv.ParseInt(req.Header.Get("Timestamp"), 10, 64)
		if now.Sub(time.Unix(unix, 0)).Abs() > 5*time.Minute {
			says(w, 401, `{"status":"Failure","message":"Timestamp out of acceptable time range"}`)
			return
		}
		then(w, req)
	}
}

func TestAWrongClockIsLearntFromTheServer(t *testing.T) {
	for _, ahead := range []time.Duration{-3 * time.Hour, 24 * time.Hour} {
		r := newRig(t, nil, skewed(ahead, true, always(200, nothing)))
		for range 2 {
			if _, err := r.Look(context.Background(), one(indicator.Host, "evil.example")); err != nil {
				t.Fatal(err)
			}
		}
		if n := len(r.requests()); n != 3 {
			t.Errorf("%d requests, want 3: the second look knows the clock", n)
		}
		if log := r.log.String(); strings.Count(log, "\n") != 1 || !strings.Contains(log, "clock") {
			t.Errorf("log: %s", log)
		}
	}
}

func TestAClockThatCantBeLearntPausesAll(t *testing.T) {
	r := newRig(t, nil, skewed(time.Hour, false, always(200, nothing)))
	_, err := r.Look(context.Background(), one(indicator.Host, "evil.example"))
	isFailure(t, err, failure.Pause, ClassClock)
	if n := len(r.requests()); n != 1 {
		t.Errorf("%d requests", n)
	}
}

func TestAServerWhoseClockLiesIsAskedTwiceOnly(t *testing.T) {
	var n atomic.Int64
	r := newRig(t, nil, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", time.Now().Add(time.Duration(n.Add(1))*time.Hour).UTC().Format(http.TimeFormat))
		says(w, 401, `{"status":"Failure","message":"Timestamp out of acceptable time range"}`)
	})
	_, err := r.Look(context.Background(), one(indicator.Host, "evil.example"))
	isFailure(t, err, failure.Pause, ClassClock)
	if n.Load() != 2 {
		t.Errorf("%d requests", n.Load())
	}
}

func TestTwoAtOnceLearnTheSameClock(t *testing.T) {
	var both atomic.Int64
	met := make(chan struct{})
	clock := skewed(2*time.Hour, true, always(200, nothing))
	r := newRig(t, nil, func(w http.ResponseWriter, req *http.Request) {
		if n := both.Add(1); n == 2 {
			close(met)
		} else if n == 1 {
			<-met // both are signed before either is answered
		}
		clock(w, req)
	})
	errs := make(chan error, 2)
	for _, host := range []string{"a.example", "b.example"} {
		go func() {
			_, err := r.Look(context.Background(), one(indicator.Host, host))
			errs <- err
		}()
	}
	for range 2 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

func TestATokenIsSentAsItIs(t *testing.T) {
	const token = "APIV2:430:c8mTcH:1234567890123:AbCdEf=="
	r := newRig(t, func(c *Config) {
		c.AccessID, c.SecretKey, c.Token = "", secret.Secret{}, secret.New(token)
	}, func(w http.ResponseWriter, req *http.Request) {
		if req.Header.Get("Authorization") != "TC-Token "+token {
			t.Errorf("Authorization: %s", req.Header.Get("Authorization"))
		}
		w.Header().Set("Date", "Mon, 02 Jan 2006 15:04:05 GMT")
		says(w, 401, `{"status":"Failure","message":"Unauthorized `+token+`"}`)
	})
	_, err := r.Look(context.Background(), one(indicator.Host, "evil.example"))
	isFailure(t, err, failure.Pause, ClassBadCredentials)
	if strings.Contains(err.Error(), token) || len(r.requests()) != 1 {
		t.Errorf("%v after %v", err, r.requests())
	}
}

func TestAnEndlessReplyIsCut(t *testing.T) {
	r := newRig(t, nil, func(w http.ResponseWriter, _ *http.Request) {
		piece := []byte(strings.Repeat(" ", 1<<20))
		_, _ = w.Write([]byte(`{"status":"Success","data":[`))
		for range 100 {
			if _, err := w.Write(piece); err != nil {
				return
			}
		}
	})
	_, err := r.Look(context.Background(), one(indicator.Host, "evil.example"))
	isFailure(t, err, failure.Retry, ClassBadReply)
	if !strings.Contains(err.Error(), "16777216") {
		t.Error(err)
	}
}

// slack is what a busy machine may add to a deadline; without the deadline the
// tests would wait for half a minute.
const slack = 5 * time.Second

func TestADeadlineEndsALookAtOnce(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	for _, version := range []int{2, 3} {
		r := newRig(t, func(c *Config) { c.APIVersion = version }, func(_ http.ResponseWriter, req *http.Request) {
			select {
			case <-release:
			case <-req.Context().Done():
			}
		})
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		begun := time.Now()
		_, err := r.Look(ctx, one(indicator.Host, "evil.example"))
		if took := time.Since(begun); took > slack { // measured: 100 to 102 ms
			t.Errorf("took %s", took)
		}
		isFailure(t, err, failure.Retry, httpx.ClassCanceled)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		cancel()
	}
}

func TestADeadlineEndsWaitingForTheRate(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Rate = 0.1; c.APIVersion = 2; c.Owners = []string{"A"} }, always(404, notFound))
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Second)
	defer cancel()
	begun := time.Now()
	answers, err := r.Look(ctx, append(one(indicator.Host, "a.example"), append(one(indicator.Host, "b.example"), one(indicator.Host, "c.example")...)...))
	isFailure(t, err, failure.Retry, httpx.ClassCanceled)
	if len(answers) != 2 || time.Since(begun) > slack {
		t.Errorf("%d answers after %s", len(answers), time.Since(begun))
	}
}

func TestTwoRequestsAtATimeForAllCallers(t *testing.T) {
	var now, most atomic.Int64
	r := newRig(t, nil, func(w http.ResponseWriter, _ *http.Request) {
		n := now.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		time.Sleep(20 * time.Millisecond)
		now.Add(-1)
		says(w, 200, nothing)
	})
	done := make(chan error)
	for i := range 8 {
		go func() {
			_, err := r.Look(context.Background(), one(indicator.Host, fmt.Sprintf("h%d.example", i)))
			done <- err
		}()
	}
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if most.Load() != 2 {
		t.Errorf("%d at a time", most.Load())
	}
}

func TestWhatIsAlwaysThereIsNoUnknownIndicator(t *testing.T) {
	for _, version := range []int{3, 2} {
		r := newRig(t, func(c *Config) { c.APIVersion = version }, always(404, notFound))
		_, err := r.Owners(context.Background())
		isFailure(t, err, failure.Pause, ClassBadURL)
		_, err = r.Incident(context.Background(), "x", time.Now(), "", nil)
		isFailure(t, err, failure.Pause, ClassBadURL)
	}
}
