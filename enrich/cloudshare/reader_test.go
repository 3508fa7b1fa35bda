package cloudshare

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"capagent/enrich/cloudsharetest"
	"capagent/enrich/device"
	"capagent/enrich/enrichtest"
	"capagent/internal/config"
	"capagent/internal/standin"
)

const (
	filesHost = "uvo1t33prksjyu269bq.vm.cld.sr"
	filesIP   = "203.0.113.66"
)

// clock is one that tests move.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// rig is a reader, its stand-in, and the clock of both.
type rig struct {
	*Reader
	s     *cloudsharetest.Server
	clock *clock
	lab   string // the environment that Demo made
	log   *logText
}

func newRig(t testing.TB, change func(*Config)) *rig {
	t.Helper()
	g := &rig{clock: &clock{at: time.Now()}}
	g.s = cloudsharetest.Start(t, cloudsharetest.Options{Now: g.clock.now})
	g.lab = g.s.Demo(filesHost, filesIP)
	var c *Client
	c, g.log = loggedClient(t, func(conf *Config) {
		to(g.s)(conf)
		if change != nil {
			change(conf)
		}
	})
	c.now = g.clock.now
	g.Reader = NewReader(c)
	return g
}

func (g *rig) refresh(t testing.TB) {
	t.Helper()
	if err := g.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// devices asks, and checks that no secret comes out.
func (g *rig) devices(t testing.TB, c device.Capture) []device.Device {
	t.Helper()
	list, err := g.Devices(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	out, _ := json.Marshal(list)
	status, _ := json.Marshal(g.Status())
	noSecret(t, g.s, string(out), string(status), g.log.String(), fmt.Sprintf("%+v %+v", g.labs, g.names))
	return list
}

// words are devices in a comparable form.
func words(list []device.Device) string {
	var out strings.Builder
	for _, d := range list {
		fmt.Fprintf(&out, "%s|%v|%s|%v|%v|%s|%s\n", d.Label(), d.Confidence, strings.Join(d.Limits, "; "), d.IPs, d.Hosts, strings.Join(d.Tags, ","), map[bool]string{true: "self"}[d.Self])
	}
	return out.String()
}

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

func (g *rig) capture() device.Capture {
	now := g.clock.now()
	return device.Capture{First: now.Add(-time.Hour), Last: now}
}

func TestSuite(t *testing.T) {
	var mu sync.Mutex
	var all []*rig
	enrichtest.Devices(t, enrichtest.DeviceOptions{
		New: func(t testing.TB) enrichtest.Namer {
			g := newRig(t, nil)
			g.refresh(t)
			mu.Lock()
			defer mu.Unlock()
			all = append(all, g)
			return g
		},
		Known: device.Capture{Last: time.Now(), Hosts: []string{filesHost, "www.example.org"}, Answers: []device.Answer{{Host: filesHost, IP: ip(filesIP)}}, Addresses: []netip.Addr{ip(filesIP)}},
		Break: func() func() {
			mu.Lock()
			defer mu.Unlock()
			for _, g := range all {
				g.s.SetFault(standin.Fault{Name: "hang"})
			}
			return func() {
				for _, g := range all {
					g.s.ClearFaults()
				}
			}
		},
	})
}

func TestAMachineByItsName(t *testing.T) {
	for name, inventory := range map[string]bool{"looked up": false, "of the inventory": true} {
		g := newRig(t, nil)
		if inventory {
			g.refresh(t)
		}
		c := g.capture()
		c.Hosts = []string{filesHost, "www.example.org", "x" + filesHost + ".example.org", "vm.cld.sr"}
		c.Answers = []device.Answer{{Host: filesHost, IP: ip("198.51.100.7")}, {Host: "www.example.org", IP: ip("198.51.100.8")}}
		c.Addresses = []netip.Addr{ip("198.51.100.7"), ip("198.51.100.8"), ip("10.160.189.98")}
		want := "files · lab Branch office · project Spring exercise · expires in 3 d|high||[198.51.100.7]|[" + filesHost + "]|lab:Branch office,project:Spring exercise|\n"
		if got := words(g.devices(t, c)); got != want {
			t.Errorf("%s:\n%s", name, got)
		}
		asked := 1
		if inventory {
			asked = 3 // the list, and two that run
		}
		if n := g.s.Counted("requests"); n != asked {
			t.Errorf("%s: %d requests", name, n)
		}
	}
}

func TestOwnersAreTheUsersChoice(t *testing.T) {
	g := newRig(t, func(c *Config) { c.Owner = true })
	c := g.capture()
	c.Hosts = []string{filesHost}
	if got := words(g.devices(t, c)); !strings.Contains(got, "owner trainer@example.com") {
		t.Error(got)
	}
	g = newRig(t, nil)
	g.refresh(t)
	c.Hosts = append(c.Hosts, "desk17demo.vm.cld.sr")
	if kept := fmt.Sprintf("%v %+v %+v", words(g.devices(t, c)), g.labs.all[0].env, g.names); strings.Contains(kept, "trainer@") {
		t.Error("the owner is kept")
	}
}

func TestAMachineByItsAddress(t *testing.T) {
	g := newRig(t, func(c *Config) { c.Pinned = []string{"Web course"} })
	g.s.AddEnv(cloudsharetest.Env{ID: "ENshared", Name: "Shared", VMs: []cloudsharetest.VM{{Name: "a", External: "198.51.100.9"}, {Name: "b", External: "198.51.100.9"}}})
	g.s.AddEnv(cloudsharetest.Env{ID: "ENoff", Name: "Off", Status: cloudsharetest.Suspended, VMs: []cloudsharetest.VM{{Name: "off", External: "198.51.100.10"}}})
	g.refresh(t)
	for _, test := range []struct {
		name, ip string
		last     time.Duration
		want     string
	}{
		{"public", filesIP, 0, "files|medium|" + limitShared},
		{"mapped into IPv6", "::ffff:" + filesIP, 0, "files|medium|" + limitShared},
		{"long ago", filesIP, 48 * time.Hour, "files|low|" + limitShared + "; " + limitOld},
		{"of two machines", "198.51.100.9", 0, "a|low|" + limitSeveral + " b|low|" + limitSeveral},
		{"of one that is off", "198.51.100.10", 0, ""},
		{"internal: of two environments, one of which is pinned", "10.160.189.98", 0, "web|low|" + limitClones},
		{"internal: not pinned", "10.160.189.17", 0, ""},
		{"of nobody", "192.0.2.1", 0, ""},
	} {
		c := g.capture()
		c.Last = c.Last.Add(-test.last)
		c.Addresses = []netip.Addr{ip(test.ip)}
		var got []string
		for _, d := range g.devices(t, c) {
			got = append(got, fmt.Sprintf("%s|%v|%s", d.Name, d.Confidence, strings.Join(d.Limits, "; ")))
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}

func TestTheAgentsOwnEnvironment(t *testing.T) {
	for _, test := range []struct {
		name, host, ip, want, own string
	}{
		{"by its name", strings.ToUpper(filesHost), "10.0.0.1", "files high", `environment "Branch office"`},
		{"by its public address", "sensor", filesIP, "files high", `environment "Branch office"`},
		{"by an internal address", "sensor", "10.160.189.17", "desk-17 medium", `environment "Branch office"`},
		{"clones share an address", "sensor", "10.160.189.98", "", "ambiguous: 2 machines"},
		{"the name decides between clones", "webdemo.vm.cld.sr", "10.160.189.98", "web high", `environment "Web course"`},
		{"a machine of no lab", "sensor", "10.0.0.1", "", "in no environment"},
		{"loopback is everybody's", "sensor", "127.0.0.1", "", "in no environment"},
	} {
		g := newRig(t, func(c *Config) {
			c.Self = func() ([]string, []netip.Addr, error) { return []string{test.host}, []netip.Addr{ip(test.ip)}, nil }
		})
		g.refresh(t)
		c := g.capture()
		c.Addresses = []netip.Addr{ip(test.ip), ip("192.0.2.1")}
		got := ""
		for _, d := range g.devices(t, c) {
			if d.Self {
				got += d.Name + " " + d.Confidence.String()
				if len(d.IPs) != 1 || d.IPs[0] != ip(test.ip) {
					t.Errorf("%s: %v", test.name, d.IPs)
				}
			}
		}
		if got != test.want || !strings.Contains(g.Status().Own, test.own) {
			t.Errorf("%s: %q, %q", test.name, got, g.Status().Own)
		}
	}
	g := newRig(t, func(c *Config) {
		c.Self = func() ([]string, []netip.Addr, error) { return nil, nil, context.Canceled }
	})
	g.refresh(t)
	if len(g.devices(t, g.capture())) != 0 || !strings.Contains(g.Status().Own, "not known") {
		t.Errorf("%q", g.Status().Own)
	}
	if hosts, ips, err := thisMachine(); err != nil || len(hosts) != 1 {
		t.Errorf("%v %v %v", hosts, ips, err)
	}
}

func TestInternalAddressesOfTheOwnEnvironmentAreBelieved(t *testing.T) {
	g := newRig(t, func(c *Config) {
		c.Self = func() ([]string, []netip.Addr, error) {
			return []string{filesHost}, []netip.Addr{ip("10.160.189.98")}, nil
		}
	})
	g.refresh(t)
	c := g.capture()
	c.Addresses = []netip.Addr{ip("10.160.189.98"), ip("10.160.189.17")}
	c.Hosts = []string{filesHost}
	got := words(g.devices(t, c))
	if strings.Count(got, "\n") != 2 || !strings.Contains(got, "high||[10.160.189.98]|["+filesHost+"]|lab:Branch office,project:Spring exercise|self") || !strings.Contains(got, "desk-17") {
		t.Error(got)
	}
}

func TestExpiryInWords(t *testing.T) {
	now := time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)
	for in, want := range map[time.Duration]string{
		-time.Hour: "expired 2026-03-10", time.Minute: "expires in 0 h", 30 * time.Hour: "expires in 30 h", 75 * time.Hour: "expires in 3 d", 30 * day: "expires 2026-04-09",
	} {
		for _, last := range []time.Time{now, {}} {
			if got := expiry(now.Add(in), last, now); got != want {
				t.Errorf("%v: %q", in, got)
			}
		}
		if got := expiry(now.Add(in), now, now.Add(100*day)); got != want {
			t.Errorf("told later: %q", got)
		}
	}
	if got := expiry(time.Time{}, now, now); got != "" {
		t.Error(got)
	}
}

func TestNamesAreAskedForOnce(t *testing.T) {
	g := newRig(t, nil)
	c := g.capture()
	c.Hosts = []string{filesHost, "nobody.vm.cld.sr"}
	count := func(want int, what string) {
		t.Helper()
		list := g.devices(t, c)
		if n := g.s.Counted("requests"); n != want || len(list) != 1 {
			t.Errorf("%s: %d requests, want %d; %d devices", what, n, want, len(list))
		}
	}
	count(2, "at first")
	count(2, "again")
	g.clock.move(hitAge + time.Minute)
	count(3, "after an hour a hit is asked for again")
	g.clock.move(missAge - hitAge)
	count(5, "after six hours a miss, too")
	g.s.SetFault(standin.Fault{Name: "unauthorized"})
	g.clock.move(hitAge + time.Minute)
	if list, err := g.Devices(t.Context(), c); !isClass(err, ClassBadCredentials) || len(list) != 1 {
		t.Errorf("what is known is told in an outage, too: %v %v", list, err)
	}
	g.clock.move(4 * time.Hour)
	if list, _ := g.Devices(t.Context(), c); len(list) != 1 || !strings.Contains(strings.Join(list[0].Limits, ""), "hours ago") {
		t.Errorf("%+v", list)
	}
	g.clock.move(dropAge)
	if list, _ := g.Devices(t.Context(), c); len(list) != 0 {
		t.Errorf("after a day: %+v", list)
	}
}

func TestManyUnseenNamesAreLeftToRun(t *testing.T) {
	g := newRig(t, nil)
	c := g.capture()
	for i := range 20 {
		host := fmt.Sprintf("n%d.vm.cld.sr", i)
		g.s.AddEnv(cloudsharetest.Env{Status: cloudsharetest.Suspended, VMs: []cloudsharetest.VM{{FQDN: host}}})
		c.Hosts = append(c.Hosts, host)
	}
	if list := g.devices(t, c); len(list) != waitNames || g.s.Counted("requests") != waitNames || g.Status().Waiting != 15 {
		t.Errorf("%d devices, %d requests, %+v", len(list), g.s.Counted("requests"), g.Status())
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); g.Run(ctx) }()
	for deadline := time.Now().Add(20 * time.Second); g.Status().Names < 20 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	cancel()
	<-done
	status := g.Status()
	if status.Names != 20 || status.Waiting != 0 || status.Environments != 23 || status.Machines != 3 || status.Error != "" {
		t.Errorf("%+v", status)
	}
	if list := g.devices(t, c); len(list) != 20 {
		t.Errorf("%d devices", len(list))
	}
	for _, r := range g.s.Requests() {
		if r.Method != "GET" {
			t.Errorf("the reader sent %s %s", r.Method, r.Target)
		}
	}
	for _, counted := range []string{"forbidden", "unknown", "parallel", "replay", "signature"} {
		if n := g.s.Counted(counted); n != 0 {
			t.Errorf("%s: %d", counted, n)
		}
	}
}

func TestAfterAnOutageNobodyIsAskedForAWhile(t *testing.T) {
	g := newRig(t, nil)
	g.s.SetFault(standin.Fault{Name: "status", Status: 503})
	c, asked := g.capture(), 0
	ask := func() (int, error) {
		asked++
		c.Hosts = []string{fmt.Sprintf("n%d.vm.cld.sr", asked)}
		before := g.s.Counted("requests")
		_, err := g.Devices(t.Context(), c)
		return g.s.Counted("requests") - before, err
	}
	waited := []time.Duration{}
	for range 8 {
		if n, err := ask(); n == 0 || !isClass(err, ClassBusy) {
			t.Fatalf("%d requests: %v", n, err)
		}
		quiet := g.Status().Quiet.Sub(g.clock.now())
		g.clock.move(quiet - time.Second)
		if n, err := ask(); n != 0 || !isClass(err, ClassBusy) || !strings.Contains(err.Error(), "not asked for a while") {
			t.Fatalf("%d requests within %v: %v", n, quiet, err)
		}
		g.clock.move(2 * time.Second)
		waited = append(waited, quiet)
	}
	for i, want := range []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 16 * time.Minute, 32 * time.Minute, time.Hour, time.Hour} {
		if waited[i] < want || waited[i] > want+want/9 {
			t.Errorf("%v", waited)
		}
	}
	g.s.ClearFaults()
	if n, err := ask(); n != 1 || err != nil || g.Status().Error != "" {
		t.Errorf("%d requests: %v", n, err)
	}
	g.s.SetFault(standin.Fault{Name: "busy", RetryAfter: "1800"})
	if _, err := ask(); err == nil || g.Status().Quiet.Sub(g.clock.now()) < 30*time.Minute {
		t.Errorf("%v, quiet until %v", err, g.Status().Quiet)
	}
}

func TestOneNameThatCannotBeAnsweredIsNoOutage(t *testing.T) {
	g := newRig(t, nil)
	g.s.SetFault(standin.Fault{Name: "status", Status: 500, Match: "broken.vm"})
	c := g.capture()
	c.Hosts = []string{"broken.vm.cld.sr", filesHost}
	if list, err := g.Devices(t.Context(), c); !isClass(err, ClassServerError) || len(list) != 1 {
		t.Errorf("%v %v", list, err)
	}
	if list := g.devices(t, c); len(list) != 1 || g.s.Counted("requests") != 2 {
		t.Errorf("%v, %d requests", list, g.s.Counted("requests"))
	}
}

func TestTheInventory(t *testing.T) {
	g := newRig(t, nil)
	g.s.AddEnv(cloudsharetest.Env{ID: "ENforeign", Foreign: true, VMs: []cloudsharetest.VM{{FQDN: "foreign.vm.cld.sr"}}})
	g.s.AddEnv(cloudsharetest.Env{ID: "ENbroken", VMs: []cloudsharetest.VM{{FQDN: "broken.vm.cld.sr"}}})
	g.s.SetFault(standin.Fault{Name: "status", Status: 500, Match: "envId=ENbroken"})
	g.refresh(t)
	if s := g.Status(); s.Environments != 3 || s.Machines != 3 || s.Skipped != 1 || s.Stale || s.Age(g.clock.now()) != 0 {
		t.Errorf("%+v", s)
	}
	if next := g.due.Sub(g.clock.now()); next < 13*time.Minute || next > 17*time.Minute {
		t.Errorf("again in %v", next)
	}
	g.clock.move(46 * time.Minute)
	if !g.Status().Stale {
		t.Error("not stale")
	}
	// 5,000 environments: as many as are looked at, at a pace that leaves half of the
	// day's calls.
	g = newRig(t, func(c *Config) { c.DailyCalls = 10_000 })
	g.s.SetFault(standin.Fault{Name: "many", Match: "/envs?"})
	g.refresh(t)
	if s := g.Status(); !s.Cut || s.Environments != 1000 || g.s.Counted("requests") != 1000 {
		t.Errorf("%+v after %d requests", s, g.s.Counted("requests"))
	}
	if next := g.due.Sub(g.clock.now()); next < 4*time.Hour {
		t.Errorf("again in %v", next)
	}
	g = newRig(t, func(c *Config) { c.Criteria, c.InventoryEvery = "allvisible", config.Duration(time.Hour) })
	g.s.AddEnv(cloudsharetest.Env{ID: "ENforeign", Foreign: true})
	g.refresh(t)
	if s := g.Status(); s.Environments != 4 {
		t.Errorf("%+v", s)
	}
}

// TestWhateverCloudShareDoes: within the deadline, without a secret, in little memory.
func TestWhateverCloudShareDoes(t *testing.T) {
	for _, kind := range standin.Kinds(cloudsharetest.Kinds()) {
		t.Run(kind.Name, func(t *testing.T) {
			t.Parallel()
			g := newRig(t, func(c *Config) { c.Timeout = config.Duration(2 * time.Second) })
			known := g.capture()
			known.Hosts = []string{filesHost}
			known.Addresses = []netip.Addr{ip(filesIP)}
			g.refresh(t)
			g.s.SetFault(standin.Fault{Name: kind.Name})
			known.Hosts = append(known.Hosts, "nobody.vm.cld.sr", "desk17demo.vm.cld.sr")
			for range 3 {
				ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
				begun := time.Now()
				list, err := g.Devices(ctx, known)
				took := time.Since(begun)
				cancel()
				if took > slack || len(list) == 0 {
					t.Errorf("took %v, %d devices", took, len(list))
				}
				out, _ := json.Marshal(list)
				noSecret(t, g.s, string(out), fmt.Sprint(err), g.log.String(), g.Status().Error)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			err := g.Refresh(ctx)
			noSecret(t, g.s, fmt.Sprint(err), g.log.String(), g.Status().Error, g.Status().Own)
			list, _ := g.Devices(ctx, known)
			for _, d := range list {
				clean(t, append(append(append([]string{d.Name}, d.Details...), d.Tags...), d.Limits...)...)
			}
			if len(list) == 0 {
				t.Error("what was known is lost")
			}
		})
	}
}

// TestALyingCloudShareTakesNoMemory: what is kept of an answer is the machine that was
// asked for, and of all environments so many machines.
func TestALyingCloudShareTakesNoMemory(t *testing.T) {
	g := newRig(t, nil)
	g.s.SetFault(standin.Fault{Name: "many"})
	for i := range 3 {
		host := fmt.Sprintf("n%d.vm.cld.sr", i)
		g.s.AddEnv(cloudsharetest.Env{VMs: []cloudsharetest.VM{{FQDN: host, Internal: slices.Repeat([]string{"10.0.0.1"}, 30)}}})
		if err := g.learn(t.Context(), host); err != nil {
			t.Fatal(err)
		}
		if k := g.names[host]; len(k.env.VMs) != 1 || cap(k.env.VMs) > 2 || len(k.env.VMs[0].Internal) > maxAddresses {
			t.Fatalf("%+v", k.env)
		}
	}
	labs := newInventory(time.Now(), false)
	for range 100 {
		labs.add(&environment{ID: "EN1", Status: statusReady, VMs: make([]machine, maxMachines)})
	}
	if labs.machines != maxAll || len(labs.all) != maxAll || !labs.cut {
		t.Errorf("%d machines", labs.machines)
	}
}

func TestRememberedNamesAreBounded(t *testing.T) {
	g := newRig(t, nil)
	for i := range 3 * maxNames {
		g.clock.move(time.Second)
		g.remember(fmt.Sprintf("n%d.vm.cld.sr", i), &known{at: g.clock.now()})
	}
	if n := len(g.names); n > maxNames || g.names[fmt.Sprintf("n%d.vm.cld.sr", 3*maxNames-1)] == nil {
		t.Errorf("%d are remembered", n)
	}
	var hosts []string
	for i := range 3 * maxQueue {
		hosts = append(hosts, fmt.Sprintf("n%d.vm.cld.sr", i))
	}
	g.later(hosts)
	if n := len(g.queue); n != maxQueue {
		t.Errorf("%d wait", n)
	}
}
