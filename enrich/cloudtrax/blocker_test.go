package cloudtrax

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"capagent/enrich/cloudtrax/api"
	"capagent/enrich/cloudtraxtest"
	"capagent/enrich/device"
	"capagent/internal/config"
	"capagent/internal/failure"
	"capagent/internal/secret"
	"capagent/internal/standin"
)

// blocking is a demo and a blocker of it that acts, with nothing between them.
func blocking(t testing.TB, o cloudtraxtest.Options, change func(*Config, *BlockerOptions)) (*cloudtraxtest.Server, *Blocker) {
	t.Helper()
	s := cloudtraxtest.New(o)
	t.Cleanup(func() { _ = s.Close() })
	s.Demo(ipad, scanner, tv, pc)
	return s, again(t, s, filepath.Join(t.TempDir(), "blocked.json"), change)
}

// again is another blocker on a file, as after a restart.
func again(t testing.TB, s *cloudtraxtest.Server, path string, change func(*Config, *BlockerOptions)) *Blocker {
	t.Helper()
	c, g := configOf(s), BlockerOptions{State: path}
	c.Block, c.BlockDryRun = true, false
	if change != nil {
		change(&c, &g)
	}
	t.Cleanup(func() {
		if n := s.Counted("forbidden"); n != 0 {
			t.Errorf("%d forbidden calls", n)
		}
	})
	return newBlocker(c, newAPI(c, handler{s.Handler()}, zerolog.Nop()), func() {}, g)
}

func TestEveryGuardHasItsWords(t *testing.T) {
	own, gateway, random := doc(0xa0), doc(0xa1), device.MAC{0xda, 0xa1, 0x19, 0, 0, 1}
	for _, test := range []struct {
		name  string
		mac   device.MAC
		setup func(*cloudtraxtest.Server)
		want  string
	}{
		{"nothing", device.MAC{}, nil, "no address of a machine"},
		{"broadcast", device.MAC{255, 255, 255, 255, 255, 255}, nil, "a group of machines"},
		{"multicast", device.MAC{1, 0, 0x5e, 0, 0, 1}, nil, "a group of machines"},
		{"random", random, nil, "a random address"},
		{"our own", own, nil, "this machine's own address"},
		{"our gateway", gateway, nil, "this machine's gateway"},
		{"an exception", pc, nil, "block_never"},
		{"an access point", front, nil, "infrastructure: AP Front office"},
		{"a switch", desk7, nil, "infrastructure: switch john"},
		{"somebody unknown", nobody, nil, "no network has seen it during the last day"},
		{"somebody of last week", nobody, func(s *cloudtraxtest.Server) {
			s.AddClient(cloudtraxtest.Client{Network: 12345, MAC: nobody, LastSeen: time.Now().Add(-25 * time.Hour)})
		}, "no network has seen it"},
		{"somebody without an id", nobody, func(s *cloudtraxtest.Server) {
			s.AddClient(cloudtraxtest.Client{Network: 12345, MAC: nobody, CID: "../x"})
		}, "no id to block it by"},
		{"somebody that others blocked", nobody, func(s *cloudtraxtest.Server) {
			s.AddClient(cloudtraxtest.Client{Network: 12345, MAC: nobody, Blocked: true})
		}, "blocked already, and not by this agent"},
	} {
		t.Run(test.name, func(t *testing.T) {
			// Infrastructure may be in the client table, too.
			s, b := blocking(t, cloudtraxtest.Options{}, func(c *Config, g *BlockerOptions) {
				c.BlockNever, g.Own, g.Gateways = []string{strings.ToUpper(pc.String())}, []device.MAC{own}, []device.MAC{gateway}
			})
			for _, m := range []device.MAC{own, gateway, random, front, desk7} {
				s.AddClient(cloudtraxtest.Client{Network: 12345, MAC: m})
			}
			if test.setup != nil {
				test.setup(s)
			}
			_, planned := b.Plan(t.Context(), test.mac)
			_, blocked := b.Block(t.Context(), test.mac, 0, "")
			for _, err := range []error{planned, blocked} {
				isClass(t, err, failure.Permanent, ClassRefused)
				if !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), test.mac.String()) {
					t.Errorf("it says %v", err)
				}
			}
			if s.Counted("block") != 0 {
				t.Error("it was blocked all the same")
			}
		})
	}
}

func TestBlockAndUnblock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, b := blocking(t, cloudtraxtest.Options{AlwaysCurrent: true}, nil)
		p, err := b.Block(t.Context(), ipad, 30*time.Minute, "session 7\x1b of evidence")
		if err != nil || p.DryRun || p.Name != "reception-ipad" || p.Network != "HQ" || !slices.Equal(s.Blocked(), []device.MAC{ipad}) {
			t.Fatalf("%+v, %v, %v", p, err, s.Blocked())
		}
		list, err := b.List()
		if err != nil || len(list) != 1 || list[0].State != Blocked || list[0].Reason != "session 7 of evidence" || list[0].Until.Sub(list[0].Since) != 30*time.Minute {
			t.Errorf("%+v, %v", list, err)
		}
		_, err = b.Block(t.Context(), ipad, 0, "")
		isClass(t, err, failure.Permanent, ClassRefused)
		if !strings.Contains(err.Error(), "already, until 2000-01-01 00:30 UTC") {
			t.Error(err)
		}
		s.Forget()
		if ended, err := b.Due(t.Context(), time.Now().Add(29*time.Minute)); err != nil || len(ended) != 0 || len(s.Requests()) != 0 {
			t.Errorf("too early: %v, %v, %d requests", ended, err, len(s.Requests()))
		}
		// A restart forgets nothing, whatever the configuration has become.
		b = again(t, s, b.guard.State, func(c *Config, _ *BlockerOptions) { c.Block, c.BlockDryRun = false, true })
		ended, err := b.Due(t.Context(), time.Now().Add(30*time.Minute))
		if err != nil || len(ended) != 1 || ended[0].MAC != ipad || len(s.Blocked()) != 0 || s.Counted("unblock") != 1 {
			t.Errorf("%v, %v, %v", ended, err, s.Blocked())
		}
		if list, err := b.List(); err != nil || len(list) != 0 {
			t.Errorf("%v, %v", list, err)
		}
	})
}

func TestUnblockByHand(t *testing.T) {
	s, b := blocking(t, cloudtraxtest.Options{}, nil)
	if _, err := b.Block(t.Context(), ipad, 0, ""); err != nil {
		t.Fatal(err)
	}
	s.AddClient(cloudtraxtest.Client{Network: 12345, MAC: tv, Blocked: true})
	isClass(t, b.Unblock(t.Context(), tv), failure.Permanent, ClassRefused)
	// What fails now is done later.
	s.SetFault(standin.Fault{Name: "status", Match: "GET /client/", Times: 1})
	isClass(t, b.Unblock(t.Context(), ipad), failure.Retry, api.ClassServerError)
	if ended, err := b.Due(t.Context(), time.Now()); err != nil || len(ended) != 1 || !slices.Equal(s.Blocked(), []device.MAC{tv}) {
		t.Errorf("%v, %v, %v", ended, err, s.Blocked())
	}
	isClass(t, b.Unblock(t.Context(), ipad), failure.Permanent, ClassRefused)
}

func TestNothingIsDoneUnlessItIsAllowed(t *testing.T) {
	for name, change := range map[string]func(*Config, *BlockerOptions){
		"off": func(c *Config, _ *BlockerOptions) { c.Block = false },
		"the default": func(c *Config, _ *BlockerOptions) {
			c.Block, c.BlockDryRun = DefaultConfig().Block, DefaultConfig().BlockDryRun
		},
		"a dry run": func(c *Config, _ *BlockerOptions) { c.BlockDryRun = true },
	} {
		s, b := blocking(t, cloudtraxtest.Options{}, change)
		p, err := b.Block(t.Context(), ipad, 0, "")
		if name == "a dry run" {
			if err != nil || !p.DryRun || p.Name != "reception-ipad" {
				t.Errorf("%+v, %v", p, err)
			}
		} else {
			isClass(t, err, failure.Permanent, ClassRefused)
		}
		if p, err := b.Plan(t.Context(), ipad); err != nil || !p.DryRun || p.Network != "HQ" {
			t.Errorf("%+v, %v", p, err)
		}
		for _, r := range s.Requests() {
			if r.Method != "GET" {
				t.Errorf("%s: %s %s", name, r.Method, r.Target)
			}
		}
		if _, err := os.Stat(b.guard.State); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: something was noted", name)
		}
	}
	_, b := blocking(t, cloudtraxtest.Options{}, nil)
	for _, d := range []time.Duration{-1, time.Second, maxBlock + 1} {
		_, err := b.Block(t.Context(), ipad, d, "")
		isClass(t, err, failure.Permanent, ClassRefused)
	}
}

func TestNoMoreThanAreAllowedWithinAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, b := blocking(t, cloudtraxtest.Options{AlwaysCurrent: true}, func(c *Config, _ *BlockerOptions) { c.BlockFor = config.Duration(10 * time.Minute) })
		for _, m := range []device.MAC{ipad, scanner, tv} {
			if _, err := b.Block(t.Context(), m, 0, ""); err != nil {
				t.Fatal(err)
			}
			time.Sleep(15 * time.Minute)
			if ended, err := b.Due(t.Context(), time.Now()); err != nil || len(ended) != 1 {
				t.Fatal(ended, err)
			}
		}
		b = again(t, s, b.guard.State, nil)
		_, err := b.Block(t.Context(), pc, 0, "")
		isClass(t, err, failure.Permanent, ClassRefused)
		if !strings.Contains(err.Error(), "3 were blocked within an hour") {
			t.Error(err)
		}
		time.Sleep(15 * time.Minute)
		if _, err := b.Block(t.Context(), pc, 0, ""); err != nil {
			t.Error(err)
		}
	})
}

func TestAnswersThatAreLost(t *testing.T) {
	for _, test := range []struct {
		name    string
		faults  []standin.Fault
		class   string // "" when it is done
		blocked bool
		state   string // "" when nothing is noted
		later   string // a quarter of an hour on
	}{
		{"the answer", []standin.Fault{{Name: "drop", Match: "PUT"}}, "", true, Blocked, Blocked},
		{"half of the answer", []standin.Fault{{Name: "badjson", Match: "PUT"}}, "", true, Blocked, Blocked},
		{"the order", []standin.Fault{{Name: "busy", Match: "PUT"}}, "busy", false, Intended, ""},
		{"a web page", []standin.Fault{{Name: "html", Match: "PUT"}}, "bad_reply", false, Intended, ""},
		{"an order that is confirmed and not done", []standin.Fault{{Name: "empty", Match: "PUT"}}, "bad_reply", false, Intended, ""},
		{"the second look", []standin.Fault{{Name: "status", Match: "GET /client/", Skip: 1, Times: 1}}, "server_error", true, Intended, Blocked},
		{"a key that is read-only", []standin.Fault{{Name: "code", Text: "13006", Match: "PUT"}}, "no_permission", false, "", ""},
		{"a nonce that is known", []standin.Fault{{Name: "code", Text: "13003", Match: "PUT"}}, "nonce", false, "", ""},
		{"infrastructure", []standin.Fault{{Name: "status", Match: "/node/"}}, "server_error", false, "", ""},
		{"switches", []standin.Fault{{Name: "code", Text: "30001", Match: "/switch/"}}, "no_permission", false, "", ""},
		{"the history", []standin.Fault{{Name: "html", Match: "/history/"}}, "bad_reply", false, "", ""},
		{"the block list", []standin.Fault{{Name: "html", Match: "GET /client/"}}, "bad_reply", false, "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, b := blocking(t, cloudtraxtest.Options{AlwaysCurrent: true}, nil)
				for _, f := range test.faults {
					s.AddFault(f)
				}
				_, err := b.Block(t.Context(), ipad, 0, "")
				switch {
				case test.class == "" && err != nil:
					t.Error(err)
				case test.class != "":
					if f := failure.As(err); f == nil || f.Class != test.class || strings.Contains(err.Error(), "\n") {
						t.Errorf("it says %v", err)
					}
				}
				state := func() string {
					list, err := b.List()
					if err != nil || len(list) > 1 {
						t.Fatal(list, err)
					}
					if len(list) == 0 {
						return ""
					}
					return list[0].State
				}
				if got := state(); got != test.state || (len(s.Blocked()) == 1) != test.blocked {
					t.Errorf("noted as %q, blocked: %v", got, s.Blocked())
				}
				puts := 0
				for _, r := range s.Requests() {
					if r.Method == "PUT" {
						puts++
					}
				}
				if puts > 1 {
					t.Errorf("%d orders", puts)
				}
				s.ClearFaults()
				time.Sleep(16 * time.Minute)
				if _, err := b.Due(t.Context(), time.Now()); err != nil {
					t.Error(err)
				}
				if got := state(); got != test.later || (len(s.Blocked()) == 1) != test.blocked {
					t.Errorf("noted as %q later, blocked: %v", got, s.Blocked())
				}
				time.Sleep(time.Hour)
				if _, err := b.Due(t.Context(), time.Now()); err != nil || len(s.Blocked()) != 0 {
					t.Errorf("in the end %v, %v", err, s.Blocked())
				}
			})
		})
	}
}

func TestAnOutageDelaysTheEndAndIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, b := blocking(t, cloudtraxtest.Options{AlwaysCurrent: true}, nil)
		if _, err := b.Block(t.Context(), ipad, 0, ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		s.Forget()
		s.SetFault(standin.Fault{Name: "busy"})
		failed := 0
		for range 600 {
			if _, err := b.Due(t.Context(), time.Now()); err != nil {
				isClass(t, err, failure.Retry, api.ClassBusy)
				failed++
			}
			time.Sleep(time.Minute)
		}
		if n := len(s.Requests()); n != failed || n < 100 || n > 140 {
			t.Errorf("%d requests in ten hours, %d failures", n, failed)
		}
		s.ClearFaults()
		for range 6 {
			if _, err := b.Due(t.Context(), time.Now()); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Minute)
		}
		if len(s.Blocked()) != 0 {
			t.Error("it is still blocked")
		}
	})
}

func TestWhatSomebodyElseEndedIsNotEndedAgain(t *testing.T) {
	s, b := blocking(t, cloudtraxtest.Options{}, nil)
	if _, err := b.Block(t.Context(), ipad, 0, ""); err != nil {
		t.Fatal(err)
	}
	s.AddClient(cloudtraxtest.Client{Network: 12345, MAC: ipad})
	if ended, err := b.Due(t.Context(), time.Now().Add(2*time.Hour)); err != nil || len(ended) != 1 || s.Counted("unblock") != 0 {
		t.Errorf("%v, %v", ended, err)
	}
}

func TestAFileThatIsDamagedStopsEverything(t *testing.T) {
	s, b := blocking(t, cloudtraxtest.Options{}, nil)
	if _, err := b.Block(t.Context(), ipad, 0, ""); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(b.guard.State)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"cut":               string(good[:len(good)/2]),
		"empty":             "",
		"of the future":     `{"version":2}`,
		"a hostile network": strings.Replace(string(good), `"12345"`, `"1/reboot"`, 1),
		"a hostile name":    strings.Replace(string(good), "reception-ipad", `x\u001b[31m`, 1),
		"no block":          `{"version":1,"blocks":[null]}`,
	} {
		if err := os.WriteFile(b.guard.State, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s.Forget()
		_, blocked := b.Block(t.Context(), scanner, 0, "")
		_, planned := b.Plan(t.Context(), scanner)
		_, due := b.Due(t.Context(), time.Now().Add(2*time.Hour))
		for _, err := range []error{blocked, planned, due, b.Unblock(t.Context(), ipad)} {
			isClass(t, err, failure.Pause, ClassBadState)
		}
		if n := len(s.Requests()); n != 0 {
			t.Errorf("%s: %d requests", name, n)
		}
	}
	// Nothing is done that can't be noted.
	for _, setup := range []func(path string) error{
		func(path string) error { return os.Mkdir(path, 0o700) },
		func(path string) error { return os.WriteFile(path+".lock", nil, 0o600) },
	} {
		s, b := blocking(t, cloudtraxtest.Options{}, nil)
		if err := setup(b.guard.State); err != nil {
			t.Fatal(err)
		}
		_, err := b.Block(t.Context(), ipad, 0, "")
		isClass(t, err, failure.Pause, ClassBadState)
		if len(s.Blocked()) != 0 {
			t.Error("it is blocked, and nothing is noted")
		}
	}
}

func TestTwoProcessesDoNotMeet(t *testing.T) {
	s, b := blocking(t, cloudtraxtest.Options{}, nil)
	other := again(t, s, b.guard.State, nil)
	err := b.with(func(*state) error {
		_, err := other.Block(t.Context(), ipad, 0, "")
		return err
	})
	isClass(t, err, failure.Retry, api.ClassBusy)
	if _, err := other.Block(t.Context(), ipad, 0, ""); err != nil {
		t.Error(err)
	}
}

// TestKilled kills a process that blocks a client, before and after the order is
// carried out, and sees that another one knows what to do.
func TestKilled(t *testing.T) {
	if url := os.Getenv("CLOUDTRAX_TEST_URL"); url != "" {
		c := DefaultConfig()
		c.URL, c.Key, c.Secret, c.Block, c.BlockDryRun = url, os.Getenv("CLOUDTRAX_TEST_KEY"), secret.New(os.Getenv("CLOUDTRAX_TEST_SECRET")), true, false
		b, err := NewBlocker(c, "test", BlockerOptions{State: os.Getenv("CLOUDTRAX_TEST_STATE")}, zerolog.Nop())
		if err != nil {
			t.Fatal(err)
		}
		_, err = b.Block(t.Context(), ipad, time.Hour, "")
		t.Fatal("it was to be killed: ", err)
	}
	for name, tc := range map[string]struct {
		fault standin.Fault
		last  string // request that hangs
		done  bool
	}{
		"before":  {standin.Fault{Name: "hang", Match: "PUT "}, "PUT", false},
		"between": {standin.Fault{Name: "hang", Match: "GET /client/", Skip: 1}, "GET", true},
	} {
		t.Run(name, func(t *testing.T) {
			s := cloudtraxtest.Start(t, cloudtraxtest.Options{AlwaysCurrent: true})
			s.Demo(ipad)
			s.SetFault(tc.fault)
			path := filepath.Join(t.TempDir(), "blocked.json")
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			child := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestKilled$")
			child.Env = append(os.Environ(), "CLOUDTRAX_TEST_URL="+s.URL, "CLOUDTRAX_TEST_KEY="+s.Key, "CLOUDTRAX_TEST_SECRET="+s.Secret, "CLOUDTRAX_TEST_STATE="+path)
			if err := child.Start(); err != nil {
				t.Fatal(err)
			}
			for s.Counted("fault:hang") == 0 && ctx.Err() == nil {
				time.Sleep(time.Millisecond)
			}
			_ = child.Process.Kill()
			_ = child.Wait()
			s.ClearFaults()
			b := again(t, s, path, nil)
			list, err := b.List()
			if err != nil || len(list) != 1 || list[0].State != Intended || (len(s.Blocked()) == 1) != tc.done {
				t.Fatalf("%+v, %v, %v", list, err, s.Blocked())
			}
			_, err = b.Block(t.Context(), ipad, 0, "")
			isClass(t, err, failure.Permanent, ClassRefused)
			if ended, err := b.Due(t.Context(), time.Now().Add(61*time.Minute)); err != nil || len(ended) != 1 || len(s.Blocked()) != 0 {
				t.Errorf("%v, %v, %v", ended, err, s.Blocked())
			}
		})
	}
}

func FuzzState(f *testing.F) {
	for _, s := range []string{
		``, `{}`, `{"version":1}`, `{"version":1,"blocks":[null,{}]}`,
		`{"version":1,"blocks":[{"network":"1","cid":"x=","mac":"00:00:5e:00:53:01","name":"a","since":"2026-01-01T00:00:00Z","until":"2026-01-01T01:00:00Z","reason":"","state":"blocked"}]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		blocks, err := decodeState(data)
		if err != nil {
			return
		}
		for _, one := range blocks {
			if id, cid := one.ids(); id.String() == "" || cid.String() == "" {
				t.Errorf("%+v", one)
			}
		}
	})
}

// TestAnOrderThatMayBeOnItsWayIsWaitedFor goes minute by minute through what becomes
// of an order of which nobody saw the effect.
func TestAnOrderThatMayBeOnItsWayIsWaitedFor(t *testing.T) {
	for _, arrives := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s, b := blocking(t, cloudtraxtest.Options{AlwaysCurrent: true}, nil)
			s.SetFault(standin.Fault{Name: "busy", Match: "PUT"})
			if _, err := b.Block(t.Context(), ipad, 0, ""); err == nil {
				t.Fatal("no error")
			}
			s.ClearFaults()
			s.Forget()
			asked := map[int]int{}
			for minute := range 20 {
				if arrives && minute == 10 {
					s.AddClient(cloudtraxtest.Client{Network: 12345, MAC: ipad, Blocked: true})
				}
				if _, err := b.Due(t.Context(), time.Now()); err != nil {
					t.Error(err)
				}
				asked[minute] = len(s.Requests())
				time.Sleep(time.Minute)
			}
			list, err := b.List()
			if err != nil || (len(list) == 1) != arrives {
				t.Errorf("%+v, %v", list, err)
			}
			last := 14 // it is over with the sixteenth minute, or when it arrived
			if arrives {
				last = 8
			}
			if asked[2] != 0 || asked[3] != 1 || asked[19] != last {
				t.Errorf("asked %v", asked)
			}
		})
	}
}

func TestAClientIsBlockedWhereItWasSeenLast(t *testing.T) {
	s, b := blocking(t, cloudtraxtest.Options{}, nil)
	for id, ago := range map[int]time.Duration{5: time.Hour, 6: time.Minute, 7: 2 * time.Hour} {
		s.AddNetwork(cloudtraxtest.Network{ID: id, Name: "Branch"})
		s.AddClient(cloudtraxtest.Client{Network: id, MAC: nobody, LastSeen: time.Now().Add(-ago)})
	}
	if p, err := b.Block(t.Context(), nobody, 0, ""); err != nil || p.id.String() != "6" {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestWhatIsOverIsForgottenAfterAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, b := blocking(t, cloudtraxtest.Options{AlwaysCurrent: true}, nil)
		for range 5 {
			if _, err := b.Block(t.Context(), ipad, time.Minute, ""); err != nil {
				t.Fatal(err)
			}
			time.Sleep(61 * time.Minute)
			if _, err := b.Due(t.Context(), time.Now()); err != nil {
				t.Fatal(err)
			}
		}
		if st, err := loadState(b.guard.State); err != nil || len(st.blocks) > 1 {
			t.Errorf("%d, %v", len(st.blocks), err)
		}
	})
}
