package cloudtrax

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"capagent/enrich/cloudtraxtest"
	"capagent/enrich/enrichtest"
	"capagent/internal/failure"
	"capagent/internal/standin"
)

func TestDevicesKeepToTheSuite(t *testing.T) {
	s := cloudtraxtest.Start(t, cloudtraxtest.Options{AlwaysCurrent: true})
	s.Demo(ipad, scanner, tv, pc)
	enrichtest.Devices(t, enrichtest.DeviceOptions{
		New: func(t testing.TB) enrichtest.Namer {
			r, err := NewReader(configOf(s), "test", zerolog.Nop())
			if err != nil {
				t.Fatal(err)
			}
			refresh(t, r)
			return r
		},
		Known: captured(ipad, front, desk7, pc),
		Break: func() func() {
			s.SetFault(standin.Fault{Name: "hang"})
			return s.ClearFaults
		},
	})
}

// asked counts the requests by their targets.
func asked(s *cloudtraxtest.Server) map[string]int {
	out := map[string]int{}
	for _, r := range s.Requests() {
		out[r.Method+" "+r.Target]++
	}
	return out
}

func TestPollingIsPolite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, r := inBubble(t, cloudtraxtest.Options{AlwaysCurrent: true}, nil)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); r.Run(ctx) }()
		synctest.Wait()
		first := asked(s)
		if len(first) != 7 || r.Status().Clients != 4 || r.Status().Nodes != 2 || r.Status().Switches != 1 {
			t.Errorf("at once: %v, %+v", first, r.Status())
		}
		time.Sleep(24*time.Hour - time.Second)
		synctest.Wait()
		cancel()
		<-done
		got := asked(s)
		for target, want := range map[string][2]int{ // a day's, give or take a tenth
			"GET /network/list": {1, 2}, "GET /network/12345/settings": {1, 2}, "GET /history/network/12345/clients?period=2hours": {280, 300},
			"GET /node/network/12345/list": {92, 102}, "GET /switch/network/12345/list": {69, 77}, "GET /switch/7788": {69, 77}, "GET /sitesurvey/network/12345": {22, 27},
		} {
			if n := got[target]; n < want[0] || n > want[1] {
				t.Errorf("%s: %d times a day", target, n)
			}
			delete(got, target)
		}
		if len(got) != 0 {
			t.Errorf("asked for %v as well", got)
		}
		var gaps []time.Duration
		var last time.Time
		for _, q := range s.Requests() {
			if strings.Contains(q.Target, "clients") {
				if !last.IsZero() {
					gaps = append(gaps, q.At.Sub(last))
				}
				last = q.At
			}
		}
		if slices.Min(gaps) < 270*time.Second || slices.Max(gaps) > 331*time.Second || slices.Min(gaps) == slices.Max(gaps) {
			t.Errorf("the pauses are %v to %v", slices.Min(gaps), slices.Max(gaps))
		}
		if s.Counted("replay") != 0 {
			t.Error("a nonce was used twice")
		}
	})
}

func TestASurveyCanBeOff(t *testing.T) {
	s, r := overWire(t, cloudtraxtest.Options{}, func(c *Config) { c.SurveyEvery = 0 })
	refresh(t, r)
	if n := asked(s)["GET /sitesurvey/network/12345"]; n != 0 {
		t.Errorf("asked %d times", n)
	}
}

func TestAnOutageIsWaitedFor(t *testing.T) {
	for _, fault := range []standin.Fault{{Name: "busy"}, {Name: "status", Status: 503}, {Name: "reset"}} {
		t.Run(fault.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if fault.Name == "reset" {
					fault.Name = "drop" // there is no connection to reset
				}
				s, r := inBubble(t, cloudtraxtest.Options{AlwaysCurrent: true}, nil)
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan struct{})
				go func() { defer close(done); r.Run(ctx) }()
				synctest.Wait()
				s.Forget()
				s.SetFault(fault)
				time.Sleep(12 * time.Hour)
				synctest.Wait()
				var pauses []time.Duration
				list := s.Requests()
				for i := 1; i < len(list); i++ {
					pauses = append(pauses, list[i].At.Sub(list[i-1].At))
				}
				if n := len(list); n > 22 || n < 14 {
					t.Errorf("%d requests in twelve hours: %v", n, pauses)
				}
				if last := pauses[len(pauses)-1]; last < 53*time.Minute || last > 67*time.Minute {
					t.Errorf("the last pause is %v", last)
				}
				if st := r.Status(); !st.Stale || st.Error == "" || st.Age(time.Now()) < 11*time.Hour {
					t.Errorf("%+v", st)
				}
				got := named(t, r, captured(front))
				if len(got) != 1 || !strings.Contains(got[0], "(gateway; medium; stale: as of 2000-01-01 00:00 UTC") {
					t.Error(got)
				}
				time.Sleep(13 * time.Hour)
				if list, err := r.Devices(t.Context(), captured(front)); err == nil || len(list) != 0 {
					t.Errorf("after a day: %v, %v", list, err)
				}
				s.ClearFaults()
				time.Sleep(67 * time.Minute)
				synctest.Wait()
				if got := named(t, r, captured(ipad)); len(got) != 1 || r.Err() != nil || r.Status().Stale {
					t.Errorf("well again: %v, %v, %+v", got, r.Err(), r.Status())
				}
				cancel()
				<-done
			})
		})
	}
}

func TestRetryAfterIsKeptTo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, r := inBubble(t, cloudtraxtest.Options{}, nil)
		s.SetFault(standin.Fault{Name: "busy", RetryAfter: "1800", Times: 1})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); r.Run(ctx) }()
		time.Sleep(29 * time.Minute)
		synctest.Wait()
		if n := len(s.Requests()); n != 1 {
			t.Errorf("%d requests", n)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if n := len(s.Requests()); n != 8 {
			t.Errorf("%d requests", n)
		}
		cancel()
		<-done
	})
}

func TestACodeDecides(t *testing.T) {
	for code, want := range map[int]struct {
		kind  failure.Kind
		class string
		stops bool
	}{
		13000: {failure.Pause, "bad_credentials", true}, 13005: {failure.Pause, "bad_credentials", true}, 13007: {failure.Pause, "bad_credentials", true},
		13011: {failure.Pause, "bad_credentials", true}, 13016: {failure.Pause, "bad_credentials", true},
		13002: {failure.Pause, "clock", false}, 13003: {failure.Retry, "nonce", false}, 13004: {failure.Permanent, "bad_request", false},
		13006: {failure.Pause, "no_permission", false}, 13009: {failure.Pause, "no_permission", false}, 1002: {failure.Permanent, "not_found", false},
		12000: {failure.Permanent, "not_found", false}, 1000: {failure.Retry, "server_error", false}, 99: {failure.Retry, "server_error", false},
	} {
		for _, status := range []int{200, 400, 401, 500} {
			t.Run(fmt.Sprintf("%d with %d", code, status), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s, r := inBubble(t, cloudtraxtest.Options{}, nil)
					s.SetFault(standin.Fault{Name: "code", Text: fmt.Sprint(code), Status: status})
					ctx, cancel := context.WithCancel(t.Context())
					done := make(chan struct{})
					go func() { defer close(done); r.Run(ctx) }()
					synctest.Wait()
					isClass(t, r.Err(), want.kind, want.class)
					if r.Status().Stopped != want.stops || !strings.Contains(r.Err().Error(), fmt.Sprint(code)) {
						t.Errorf("%+v", r.Status())
					}
					before := len(s.Requests())
					time.Sleep(48 * time.Hour)
					synctest.Wait()
					if n := len(s.Requests()) - before; (n > 0) == (want.stops || want.class == "no_permission") {
						t.Errorf("%d requests in two days", n)
					}
					cancel()
					<-done
				})
			})
		}
	}
}

func TestANonceThatIsKnownIsReplacedOnce(t *testing.T) {
	s, r := overWire(t, cloudtraxtest.Options{}, nil)
	s.SetFault(standin.Fault{Name: "code", Text: "13003", Match: "/network/list", Times: 1})
	refresh(t, r)
	if n := asked(s)["GET /network/list"]; n != 2 {
		t.Errorf("asked %d times", n)
	}
}

func TestTheServersClockCounts(t *testing.T) {
	for _, by := range []time.Duration{20 * time.Minute, -48 * time.Hour} {
		s, r := overWire(t, cloudtraxtest.Options{}, nil)
		s.SetFault(standin.Fault{Name: "skew", By: by})
		refresh(t, r)
		if n := len(s.Requests()); n != 8 {
			t.Errorf("%v: %d requests: the clock is learnt once", by, n)
		}
	}
}

func TestWhatTheKeyMayNotDoIsOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, r := inBubble(t, cloudtraxtest.Options{AlwaysCurrent: true}, nil)
		s.SetFault(standin.Fault{Name: "code", Text: "13010", Match: "/sitesurvey/"})
		s.AddFault(standin.Fault{Name: "code", Text: "30001", Match: "/switch/"})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); r.Run(ctx) }()
		time.Sleep(10 * time.Hour)
		synctest.Wait()
		cancel()
		<-done
		if n := asked(s); n["GET /sitesurvey/network/12345"] != 1 || n["GET /switch/network/12345/list"] != 1 || n["GET /history/network/12345/clients?period=2hours"] < 100 {
			t.Error(n)
		}
		if st := r.Status(); r.Err() != nil || !slices.Equal(st.Off, []string{"switches of network 12345", "site survey of network 12345"}) {
			t.Errorf("%+v, %v", st, r.Err())
		}
		if got := named(t, r, captured(ipad)); len(got) != 1 {
			t.Error(got)
		}
	})
}

func TestOneThingThatHangsHoldsNothingElseUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, r := inBubble(t, cloudtraxtest.Options{AlwaysCurrent: true}, nil)
		s.SetFault(standin.Fault{Name: "drop", Match: "/sitesurvey/"})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); r.Run(ctx) }()
		time.Sleep(10 * time.Hour)
		synctest.Wait()
		cancel()
		<-done
		if n := asked(s); n["GET /sitesurvey/network/12345"] > 20 || n["GET /history/network/12345/clients?period=2hours"] < 100 {
			t.Error(n)
		}
		isClass(t, r.Err(), failure.Retry, "network")
	})
}

func TestNetworksAreThoseOfTheConfiguration(t *testing.T) {
	s, r := overWire(t, cloudtraxtest.Options{}, func(c *Config) { c.Networks = []string{"12345"} })
	s.AddNetwork(cloudtraxtest.Network{ID: 5, Name: "Branch"})
	// The list may be denied: the configuration says enough.
	s.SetFault(standin.Fault{Name: "code", Text: "13008", Match: "/network/list"})
	refresh(t, r)
	for target := range asked(s) {
		if strings.Contains(target, "network/5") {
			t.Errorf("asked for %s", target)
		}
	}
	if got := named(t, r, captured(ipad)); len(got) != 1 || r.Status().Networks != 1 {
		t.Errorf("%v, %+v", got, r.Status())
	}
}

func TestBothFormsOfTheClientTable(t *testing.T) {
	for _, list := range []bool{false, true} {
		_, r := overWire(t, cloudtraxtest.Options{ClientsAsList: list}, nil)
		refresh(t, r)
		if st := r.Status(); st.Clients != 4 || st.Skipped != 0 {
			t.Errorf("%+v", st)
		}
	}
}

func TestLiesAreSkippedAndCounted(t *testing.T) {
	for _, list := range []bool{false, true} {
		s, r := overWire(t, cloudtraxtest.Options{ClientsAsList: list}, nil)
		s.SetFault(standin.Fault{Name: "lies"})
		refresh(t, r)
		// Of the clients one has nothing but an address.
		if st := r.Status(); st.Clients != 5 || st.Nodes != 2 || st.Switches != 1 || st.Networks != 1 || st.Skipped != 4+3+3+3+2 {
			t.Errorf("%+v", st)
		}
		if got := named(t, r, captured(ipad)); len(got) != 1 || !strings.HasPrefix(got[0], "reception-ipad · AP Front office · SSID HQ-Staff · iOS 17.1 (client; high") {
			t.Error(got)
		}
	}
}

func TestFaultsLeaveTheSnapshotAlone(t *testing.T) {
	for _, f := range []standin.Fault{
		{Name: "html"},
		{Name: "html", Status: 502},
		{Name: "empty", Match: "/list"},
		{Name: "badjson"},
		{Name: "reset"},
		{Name: "drop"},
		{Name: "echo"},
		{Name: "redirect"},
		{Name: "status", Status: 500},
		{Name: "status", Status: 404},
		{Name: "unauthorized"},
		{Name: "hang"},
		{Name: "dribble", Delay: 50 * time.Millisecond},
		{Name: "huge", Bytes: 100_000_000},
	} {
		t.Run(fmt.Sprintf("%s-%d", f.Name, f.Status), func(t *testing.T) {
			s, r := overWire(t, cloudtraxtest.Options{AlwaysCurrent: true}, func(c *Config) { c.Timeout = 1e9 })
			refresh(t, r)
			r.mu.Lock()
			for _, j := range r.jobs {
				j.due = time.Time{}
			}
			r.mu.Unlock()
			s.SetFault(f)
			began := time.Now()
			err := r.Refresh(t.Context())
			if err == nil || failure.As(err).Class == "unknown" {
				t.Errorf("it says %v", err)
			}
			t.Logf("%v: %v", time.Since(began).Round(time.Millisecond), err)
			if got := named(t, r, captured(ipad, front)); len(got) != 2 {
				t.Error(got)
			}
		})
	}
}

func TestACallerCanGiveUp(t *testing.T) {
	s, r := overWire(t, cloudtraxtest.Options{}, nil)
	s.SetFault(standin.Fault{Name: "hang"})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	isClass(t, r.Refresh(ctx), failure.Retry, "canceled")
	if _, err := r.Devices(t.Context(), captured(ipad)); err == nil {
		t.Error("nothing is known, and it does not say so")
	}
}

func TestWhichNetworksThereAre(t *testing.T) {
	s, r := overWire(t, cloudtraxtest.Options{}, nil)
	if got, err := r.Networks(t.Context()); err != nil || !slices.Equal(got, []string{"HQ (12345)"}) || len(s.Requests()) != 1 {
		t.Error(got, err)
	}
	s.SetFault(standin.Fault{Name: "code", Text: "13011"})
	_, err := r.Networks(t.Context())
	isClass(t, err, failure.Pause, "bad_credentials")
}
