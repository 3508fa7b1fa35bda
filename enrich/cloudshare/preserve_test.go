package cloudshare

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"capagent/enrich/cloudsharetest"
	"capagent/internal/config"
	"capagent/internal/failure"
	"capagent/internal/httpx"
	"capagent/internal/standin"
)

// keeper is a preserver, its stand-in, and what it told.
type keeper struct {
	*Preserver
	s     *cloudsharetest.Server
	lab   string
	log   *logText
	steps []Step
}

const file = "cloudshare.json"

func newKeeper(t *testing.T, o cloudsharetest.Options, change func(*Config)) *keeper {
	t.Helper()
	k := &keeper{s: cloudsharetest.Start(t, o)}
	k.lab = k.s.Demo(filesHost, filesIP)
	var c *Client
	c, k.log = loggedClient(t, func(conf *Config) {
		to(k.s)(conf)
		conf.Preserve, conf.PreserveDryRun, conf.PreserveAllow = true, false, []string{k.lab, "ENdemo-full", "ENdemo-old"}
		if change != nil {
			change(conf)
		}
	})
	k.Preserver = NewPreserver(c, filepath.Join(t.TempDir(), file))
	k.poll, k.settle, k.patience = time.Millisecond, 30*time.Millisecond, 300*time.Millisecond
	return k
}

func (k *keeper) preserve(t *testing.T, env string) error {
	t.Helper()
	k.steps = nil
	err := k.Preserve(t.Context(), env, "evil\r\nhost \x1b[2J"+k.s.APIID, func(s Step) { k.steps = append(k.steps, s) })
	state, _ := os.ReadFile(k.path)
	noSecret(t, k.s, fmt.Sprint(err, k.steps), k.log.String(), string(state))
	for _, s := range k.steps {
		if s.Text == "" || strings.ContainsAny(s.Text, "\r\n\x1b") {
			t.Errorf("%+v", s)
		}
	}
	return err
}

// told are the steps as far as they tell something of an end.
func (k *keeper) told() string {
	var out []string
	for _, s := range k.steps {
		if s.State != Begun {
			out = append(out, s.Name+" "+s.State)
		}
	}
	return strings.Join(out, ", ")
}

// done are the calls that change something.
func (k *keeper) done() string {
	var out []string
	for _, r := range k.s.Requests() {
		if r.Method != "GET" {
			path, _, _ := strings.Cut(r.Target, "?")
			out = append(out, r.Method+" "+path[strings.LastIndex(path, "/")+1:])
		}
	}
	return strings.Join(out, ", ")
}

func (k *keeper) want(t *testing.T, done string, snapshots int) {
	t.Helper()
	if got := k.done(); got != done {
		t.Errorf("done: %q, want %q", got, done)
	}
	for _, counted := range []string{"forbidden", "unknown", "parallel", "replay", "signature", "evicted"} {
		if n := k.s.Counted(counted); n != 0 {
			t.Errorf("%s: %d", counted, n)
		}
	}
	if n := len(k.s.Env(k.lab).Snapshots); n != snapshots {
		t.Errorf("%d snapshots, want %d", n, snapshots)
	}
}

const allSteps = "PUT postponeinactivity, PUT extend, POST takesnapshot"

func sooner(c *Config) { c.ExtendBelow = config.Duration(4 * day) }

func TestPreserving(t *testing.T) {
	k := newKeeper(t, cloudsharetest.Options{}, func(c *Config) { sooner(c); c.Suspend = true })
	before := k.s.Env(k.lab)
	if err := k.preserve(t, "Branch office"); err != nil {
		t.Fatal(err)
	}
	k.want(t, allSteps+", PUT suspend", 2)
	e := k.s.Env(k.lab)
	taken := e.Snapshots[1]
	if !snapshotName().MatchString(taken.Name) || len(taken.Name) != 25 || taken.Default || !e.Snapshots[0].Default {
		t.Errorf("%+v", e.Snapshots)
	}
	if e.Postponed != 1 || !e.Expires.After(before.Expires) || e.Status != cloudsharetest.Suspended {
		t.Errorf("%+v", e)
	}
	if got := k.told(); got != "check done, postpone done, extend done, snapshot done, suspend done" {
		t.Error(got)
	}
	if text := fmt.Sprint(k.steps); !strings.Contains(text, stamp(before.Expires)) || !strings.Contains(text, stamp(e.Expires)) || !strings.Contains(text, taken.Name+" is there (2 of 5)") {
		t.Error(text)
	}
	if log := k.log.String(); strings.Count(log, "\n") != 4 || strings.Count(log, `"reason":"evil host [2J`) != 4 || !strings.Contains(log, k.lab) {
		t.Error(log)
	}
	// Again: it was done.
	isFailure(t, k.s, k.preserve(t, k.lab), failure.Permanent, ClassCooldown)
	k.want(t, allSteps+", PUT suspend", 2)
	var kept state
	data, _ := os.ReadFile(k.path)
	if err := json.Unmarshal(data, &kept); err != nil || kept[k.lab].Snapshot != taken.Name || kept[k.lab].Done.IsZero() {
		t.Errorf("%s", data)
	}
	// And after the cool-down.
	k.s.Change(k.lab, func(e *cloudsharetest.Env) { e.Status = cloudsharetest.Ready })
	now := time.Now().Add(7 * time.Hour)
	k.now = func() time.Time { return now }
	if err := k.preserve(t, k.lab); err != nil || len(k.s.Env(k.lab).Snapshots) != 3 {
		t.Errorf("%v %+v", err, k.s.Env(k.lab).Snapshots)
	}
}

func TestWhatIsNotPreserved(t *testing.T) {
	for _, test := range []struct {
		name   string
		env    string
		change func(*Config)
		alter  func(*keeper)
		class  string
		text   string
	}{
		{"acting is off", "", func(c *Config) { c.Preserve = false }, nil, ClassNotAllowed, "not switched on"},
		{"not in the list", "", func(c *Config) { c.PreserveAllow = []string{"EN1"} }, nil, ClassNotAllowed, "not among"},
		{"too many snapshots", "ENdemo-full", nil, nil, ClassWouldEvict, "has 5 snapshots"},
		{"asleep", "ENdemo-old", nil, nil, ClassNotReady, "status 3 Suspended"},
		{"no right", "", nil, func(k *keeper) { k.s.SetFault(standin.Fault{Name: "permission"}) }, ClassNoPermission, "may not edit"},
		{"unknown", "Nothing of that name", nil, nil, ClassNotFound, "no environment"},
		{"two of one name", "Twin", nil, func(k *keeper) {
			k.s.AddEnv(cloudsharetest.Env{Name: "Twin"})
			k.s.AddEnv(cloudsharetest.Env{Name: "Twin"})
		}, ClassRefused, "2 environments"},
		{"a damaged state", "", nil, func(k *keeper) { _ = os.WriteFile(k.path, []byte("{"), 0o600) }, ClassState, file},
		{"a state of others", "", nil, func(k *keeper) {
			_ = os.WriteFile(k.path, []byte(`{"EN1":{"snapshot":"x","begun":"2026-01-01T00:00:00Z"}}`), 0o600)
		}, ClassState, file},
		{"a state that is a folder", "", nil, func(k *keeper) { _ = os.Mkdir(k.path, 0o700) }, ClassState, file},
		{"somebody takes a snapshot", "", nil, func(k *keeper) {
			k.s.Change(k.lab, func(e *cloudsharetest.Env) { e.Status = cloudsharetest.Taking })
			k.s.SetFault(standin.Fault{Name: "stuck"})
		}, ClassNotReady, "status 7"},
		{"snapshots that are odd", "", nil, func(k *keeper) { k.s.SetFault(standin.Fault{Name: "odd", Match: "getforenv"}) }, ClassBadReply, "list of snapshots"},
		{"another environment", "", nil, func(k *keeper) { k.s.SetFault(standin.Fault{Name: "odd", Match: "getextended"}) }, ClassBadReply, "something else"},
		{"many snapshots", "", nil, func(k *keeper) { k.s.SetFault(standin.Fault{Name: "many", Match: "getforenv"}) }, ClassWouldEvict, "has 100"},
		{"a wrong key", "", nil, func(k *keeper) { k.s.SetFault(standin.Fault{Name: "unauthorized"}) }, ClassBadCredentials, "401"},
	} {
		t.Run(test.name, func(t *testing.T) {
			k := newKeeper(t, cloudsharetest.Options{}, func(c *Config) {
				if sooner(c); test.change != nil {
					test.change(c)
				}
			})
			if test.alter != nil {
				test.alter(k)
			}
			if test.env == "" {
				test.env = k.lab
			}
			f := isFailure(t, k.s, k.preserve(t, test.env), classes[test.class].kind, test.class)
			if !strings.Contains(f.Error(), test.text) {
				t.Error(f.Error())
			}
			k.want(t, "", 1)
			plan, err := k.Plan(t.Context(), test.env)
			if err == nil && plan.Refused == nil || err != nil && !isClass(err, test.class) {
				t.Errorf("%+v %v", plan, err)
			}
		})
	}
}

func TestPlansChangeNothing(t *testing.T) {
	for name, change := range map[string]func(*Config){"a dry run": func(c *Config) { c.PreserveDryRun = true }, "a dry run, and acting is off": func(c *Config) { c.PreserveDryRun, c.Preserve = true, false }} {
		k := newKeeper(t, cloudsharetest.Options{}, func(c *Config) { sooner(c); change(c) })
		if err := k.preserve(t, k.lab); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := k.told(); got != "check done, postpone planned, extend planned, snapshot planned, suspend skipped" {
			t.Errorf("%s: %s", name, got)
		}
		plan, err := k.Plan(t.Context(), k.lab)
		if err != nil || plan.Refused != nil || plan.Snapshots != 1 || plan.Name != "Branch office" || plan.Expires.IsZero() || fmt.Sprint(plan.Steps) != fmt.Sprint(k.steps) {
			t.Errorf("%s: %+v %v", name, plan, err)
		}
		k.want(t, "", 1)
		if _, err := os.Stat(k.path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: something is remembered", name)
		}
	}
}

func TestExtending(t *testing.T) {
	// Not needed: it expires in three days.
	k := newKeeper(t, cloudsharetest.Options{}, nil)
	if err := k.preserve(t, k.lab); err != nil || !strings.Contains(k.told(), "extend skipped, snapshot done") {
		t.Errorf("%v %s", err, k.told())
	}
	k.want(t, "PUT postponeinactivity, POST takesnapshot", 2)
	// No end is known.
	k = newKeeper(t, cloudsharetest.Options{}, sooner)
	k.s.Change(k.lab, func(e *cloudsharetest.Env) { e.Expires = time.Time{} })
	if err := k.preserve(t, k.lab); err != nil || !strings.Contains(k.told(), "extend skipped") {
		t.Errorf("%v %s", err, k.told())
	}
	// CloudShare says yes and changes nothing: a failure, and evidence is kept still.
	k = newKeeper(t, cloudsharetest.Options{}, func(c *Config) { sooner(c); c.Suspend = true })
	k.s.SetFault(standin.Fault{Name: "nochange"})
	isFailure(t, k.s, k.preserve(t, k.lab), failure.Permanent, ClassNoChange)
	if got := k.told(); got != "check done, postpone done, extend failed, snapshot done, suspend skipped" {
		t.Error(got)
	}
	k.want(t, allSteps, 2)
	// The answer is lost: it is read again, and not sent again.
	k = newKeeper(t, cloudsharetest.Options{}, sooner)
	k.s.SetFault(standin.Fault{Name: "drop", Match: "extend?envId"})
	k.s.AddFault(standin.Fault{Name: "drop", Match: "PUT"})
	isFailure(t, k.s, k.preserve(t, k.lab), failure.Retry, httpx.ClassNetwork)
	k.s.SetFault(standin.Fault{Name: "drop", Match: "PUT /api/v3/envs/actions/extend"})
	k.s.Forget()
	if err := k.preserve(t, k.lab); err != nil || k.s.Counted("extend") != 1 || !strings.Contains(k.told(), "extend done") {
		t.Errorf("%v %s", err, k.told())
	}
	k.want(t, allSteps, 2)
}

func TestTheAgentsOwnEnvironmentIsNotSuspended(t *testing.T) {
	for name, self := range map[string]func() ([]string, []netip.Addr, error){
		"by name":             func() ([]string, []netip.Addr, error) { return []string{filesHost}, nil, nil },
		"by public address":   func() ([]string, []netip.Addr, error) { return nil, []netip.Addr{ip(filesIP)}, nil },
		"by internal address": func() ([]string, []netip.Addr, error) { return nil, []netip.Addr{ip("10.160.189.17")}, nil },
		"nobody knows":        func() ([]string, []netip.Addr, error) { return nil, nil, errors.New("no") },
	} {
		k := newKeeper(t, cloudsharetest.Options{}, func(c *Config) { c.Suspend, c.Self = true, self })
		if err := k.preserve(t, k.lab); err != nil || !strings.HasSuffix(k.told(), "snapshot done, suspend skipped") {
			t.Errorf("%s: %v %s", name, err, k.told())
		}
		k.want(t, "PUT postponeinactivity, POST takesnapshot", 2)
	}
}

// TestASnapshotIsTakenOnce, whatever becomes of the answer.
func TestASnapshotIsTakenOnce(t *testing.T) {
	for _, test := range []struct {
		name    string
		options cloudsharetest.Options
		fault   standin.Fault
		done    string
	}{
		{"the answer is lost", cloudsharetest.Options{}, standin.Fault{Name: "drop", Match: "takesnapshot"}, "PUT postponeinactivity, POST takesnapshot"},
		{"the connection is reset", cloudsharetest.Options{}, standin.Fault{Name: "drop", Reset: true, Match: "takesnapshot"}, "PUT postponeinactivity, POST takesnapshot"},
		{"a server that wants PUT", cloudsharetest.Options{TakeByPut: true}, standin.Fault{Name: "slow", Delay: 1}, "PUT postponeinactivity, POST takesnapshot, PUT takesnapshot"},
		{"CloudShare is out of order while it is taken", cloudsharetest.Options{Taking: 5}, standin.Fault{Name: "status", Status: 503, Match: "getextended", Skip: 2, Times: 6}, "PUT postponeinactivity, POST takesnapshot"},
	} {
		t.Run(test.name, func(t *testing.T) {
			k := newKeeper(t, test.options, nil)
			k.s.SetFault(test.fault)
			if err := k.preserve(t, k.lab); err != nil {
				t.Fatal(err)
			}
			k.want(t, test.done, 2)
		})
	}
}

func TestASnapshotThatDoesNotShow(t *testing.T) {
	// It never ends: nobody waits for ever, and it is not asked for again.
	k := newKeeper(t, cloudsharetest.Options{}, nil)
	k.s.SetFault(standin.Fault{Name: "stuck"})
	for range 2 {
		f := isFailure(t, k.s, k.preserve(t, k.lab), failure.Retry, ClassUnconfirmed)
		if !strings.Contains(f.Error(), "still being taken") {
			t.Error(f)
		}
	}
	k.want(t, "PUT postponeinactivity, POST takesnapshot", 1)
	k.s.ClearFaults()
	if err := k.preserve(t, k.lab); err != nil {
		t.Fatal(err)
	}
	k.want(t, "PUT postponeinactivity, POST takesnapshot", 2)
	// It was never taken, although CloudShare said so: the next time it is asked for again,
	// under the same name.
	k = newKeeper(t, cloudsharetest.Options{}, nil)
	k.s.SetFault(standin.Fault{Name: "lost"})
	isFailure(t, k.s, k.preserve(t, k.lab), failure.Retry, ClassUnconfirmed)
	kept, err := readState(k.path)
	if err != nil {
		t.Fatal(err)
	}
	k.s.ClearFaults()
	if err := k.preserve(t, k.lab); err != nil {
		t.Fatal(err)
	}
	k.want(t, "PUT postponeinactivity, POST takesnapshot, POST takesnapshot", 2)
	if name := k.s.Env(k.lab).Snapshots[1].Name; name != kept[k.lab].Snapshot {
		t.Errorf("%s and %s", name, kept[k.lab].Snapshot)
	}
	// CloudShare refuses: there is nothing to look for, and no cool-down.
	k = newKeeper(t, cloudsharetest.Options{}, nil)
	k.s.SetFault(standin.Fault{Name: "status", Status: 409, Match: "takesnapshot"})
	isFailure(t, k.s, k.preserve(t, k.lab), failure.Permanent, ClassRefused)
	k.s.ClearFaults()
	if err := k.preserve(t, k.lab); err != nil {
		t.Fatal(err)
	}
	// It became the default, although it was asked not to.
	k = newKeeper(t, cloudsharetest.Options{}, nil)
	k.s.SetFault(standin.Fault{Name: "default"})
	if err := k.preserve(t, k.lab); err != nil || !strings.Contains(fmt.Sprint(k.steps), "made it the default") {
		t.Errorf("%v %v", err, k.steps)
	}
}

func TestWithoutAMemoryNothingIsTaken(t *testing.T) {
	k := newKeeper(t, cloudsharetest.Options{}, nil)
	k.path = filepath.Join(t.TempDir(), "not", "there", file)
	f := isFailure(t, k.s, k.preserve(t, k.lab), failure.Permanent, ClassState)
	if !strings.Contains(f.Error(), file) {
		t.Error(f)
	}
	k.want(t, "PUT postponeinactivity", 1)
}

func TestPreservingEndsWithItsContext(t *testing.T) {
	k := newKeeper(t, cloudsharetest.Options{}, nil)
	k.s.SetFault(standin.Fault{Name: "stuck"})
	k.poll = time.Hour
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	begun := time.Now()
	err := k.Preserve(ctx, k.lab, "x", func(Step) {})
	if took := time.Since(begun); took > slack || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v after %v", err, took)
	}
	k.s.ClearFaults()
	k.poll = time.Millisecond
	if err := k.preserve(t, k.lab); err != nil {
		t.Fatal(err)
	}
	k.want(t, "PUT postponeinactivity, POST takesnapshot", 2)
}

// childMain is a preserver that is to be killed.
func childMain() {
	conf := DefaultConfig()
	if err := json.Unmarshal([]byte(os.Getenv("CLOUDSHARE_CHILD")), &conf); err != nil {
		panic(err)
	}
	if err := conf.APIKey.UnmarshalText([]byte(os.Getenv("CLOUDSHARE_KEY"))); err != nil {
		panic(err)
	}
	c, err := New(conf, "test", zerolog.Nop())
	if err != nil {
		panic(err)
	}
	c.pace = 0
	p := NewPreserver(c, os.Getenv("CLOUDSHARE_FILE"))
	p.poll = time.Millisecond
	fmt.Println(p.Preserve(context.Background(), conf.PreserveAllow[0], "x", func(Step) {}))
}

// TestKilledBetweenAskingAndRecording: kill -9 after CloudShare took the request and
// before its answer.
func TestKilledBetweenAskingAndRecording(t *testing.T) {
	k := newKeeper(t, cloudsharetest.Options{Taking: 4}, nil)
	k.s.SetFault(standin.Fault{Name: "held", Match: "takesnapshot"})
	conf, err := json.Marshal(map[string]any{"URL": k.conf.URL, "APIID": k.conf.APIID, "Preserve": true, "PreserveDryRun": false, "PreserveAllow": []string{k.lab}})
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), "CLOUDSHARE_CHILD="+string(conf), "CLOUDSHARE_KEY="+k.s.APIKey, "CLOUDSHARE_FILE="+k.path)
	var out strings.Builder
	child.Stdout, child.Stderr = &out, &out
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); k.s.Counted("snapshot") == 0 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	_ = child.Process.Kill()
	_ = child.Wait()
	if k.s.Counted("snapshot") != 1 {
		t.Fatalf("it did not come to that: %s", out.String())
	}
	held := func() bool { // the stand-in has not seen yet that its client is gone
		return slices.ContainsFunc(k.s.Requests(), func(r standin.Request) bool { return !r.Done })
	}
	for deadline := time.Now().Add(20 * time.Second); held() && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	k.s.ClearFaults()
	if err := k.preserve(t, k.lab); err != nil {
		t.Fatal(err)
	}
	k.want(t, "PUT postponeinactivity, POST takesnapshot", 2)
	if got := k.told(); got != "check done, postpone skipped, extend skipped, snapshot done, suspend skipped" {
		t.Error(got)
	}
}

// TestWhatDestroysDoesNotExist: no text in the code could be the path of such a call.
func TestWhatDestroysDoesNotExist(t *testing.T) {
	bad := regexp.MustCompile(`(?i)actions/[a-z]*(revert|edit|reboot|default|regenerate|execute|mount|delete)|^DELETE$`)
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) < 8 {
		t.Fatal(files, err)
	}
	actions := 0
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		tree, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.BasicLit:
				text := strings.Trim(n.Value, "\"`")
				if bad.MatchString(text) {
					t.Errorf("%s: %s", name, text)
				}
				if strings.Contains(text, "/actions/") {
					actions++
				}
			case *ast.SelectorExpr:
				if n.Sel.Name == "MethodDelete" || n.Sel.Name == "MethodPut" && name != "act.go" || n.Sel.Name == "MethodPost" && name != "act.go" {
					t.Errorf("%s uses %s", name, n.Sel.Name)
				}
			}
			return true
		})
	}
	if actions != 7 {
		t.Errorf("%d paths of actions", actions)
	}
}

func FuzzState(f *testing.F) {
	f.Add([]byte(`{"EN1":{"snapshot":"ev-20260310-120000-0a1b2c","begun":"2026-03-10T12:00:00Z","done":"2026-03-10T12:05:00Z","reason":"x"}}`))
	f.Add([]byte(`{"../x":{}}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := decodeState(data)
		if err != nil {
			return
		}
		for id, r := range s {
			if !identifier().MatchString(id) || !snapshotName().MatchString(r.Snapshot) {
				t.Errorf("%q %+v", id, r)
			}
		}
		again, err := json.Marshal(s)
		if err != nil {
			return // a year that JSON has no form for
		}
		if _, err := decodeState(again); err != nil {
			t.Errorf("%s: %v", again, err)
		}
	})
}
