package doctor

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"capagent/capture/live"
	"capagent/capture/watch"
	"capagent/internal/config"
	"capagent/internal/failure"
	"capagent/internal/ledger"
	"capagent/internal/paths"
	"capagent/internal/secret"
	"capagent/service"
	"capagent/service/control"
	"capagent/upload/cloudsharktest"
)

// rig is a configuration that is right, and a CloudShark behind a certificate of its own.
type rig struct {
	Options
	ca string
}

type serving struct {
	ends time.Time     // of the certificate; zero: in a year
	off  time.Duration // how far the server's clock is ahead
}

func newRig(t *testing.T, s serving) *rig {
	t.Helper()
	shark, err := cloudsharktest.New(cloudsharktest.Options{})
	ok(t, err)
	t.Cleanup(func() { _ = shark.Close() })
	inner := shark.Handler()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", time.Now().Add(s.off).UTC().Format(http.TimeFormat))
		inner.ServeHTTP(w, r)
	}))
	if s.ends.IsZero() {
		s.ends = time.Now().Add(365 * 24 * time.Hour)
	}
	cert, text := certificate(t, s.ends)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	server.StartTLS()
	t.Cleanup(server.Close)
	dir := t.TempDir()
	r := &rig{ca: filepath.Join(dir, "ca.pem")}
	ok(t, os.WriteFile(r.ca, text, 0o600))
	cfg := service.DefaultConfig()
	cfg.Agent.StateDir = filepath.Join(dir, "state")
	ok(t, os.Mkdir(cfg.Agent.StateDir, 0o700))
	cfg.Retention.MinFree = 0
	cfg.CloudShark.URL, cfg.CloudShark.Token, cfg.CloudShark.CAFile = server.URL, secret.New(shark.Token), r.ca
	cfg.Loaded = &config.Loaded{Path: "/etc/capagent/agent.toml"}
	own, _ := paths.Default("")
	r.Options = Options{
		Config: cfg, Places: own, Control: control.Place(cfg.Control, cfg.StateDir(), own), Version: "1.0.0",
		Denied: func(err error) bool { return failure.As(err).Class == "bad_token" },
		interfaces: func() ([]live.Interface, error) {
			return []live.Interface{
				{Name: "up0", Up: true, Running: true},
				{Name: "down0"},
				{Name: "denied0", Up: true, Running: true, Problem: errors.New("operation not permitted; allow it with: sudo something")},
			}, nil
		},
	}
	return r
}

// certificate makes a server's that vouches for itself.
func certificate(t *testing.T, ends time.Time) (tls.Certificate, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ok(t, err)
	template := x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Example CA"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: ends,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	ok(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// look runs the checks, and holds that what is not well has a fix and a class.
func (r *rig) look(t *testing.T) Report {
	t.Helper()
	report := Run(t.Context(), r.Options)
	for _, c := range report.Checks {
		bad := c.Result == Warn || c.Result == Fail
		if bad != (c.Fix != "") || (c.Result == Fail) != (c.Class != "") || c.ID == "" || c.Title == "" || c.Detail == "" {
			t.Errorf("%+v", c)
		}
	}
	return report
}

func (r *rig) check(t *testing.T, id string) Check {
	t.Helper()
	report := r.look(t)
	i := slices.IndexFunc(report.Checks, func(c Check) bool { return c.ID == id })
	if i < 0 {
		t.Fatalf("no check %s in %+v", id, report.Checks)
	}
	return report.Checks[i]
}

// wants holds what one check came to. Each of texts is in its detail or fix.
func (r *rig) wants(t *testing.T, id string, result Result, class Class, texts ...string) {
	t.Helper()
	c := r.check(t, id)
	if c.Result != result || c.Class != class {
		t.Errorf("%+v: want %s %s", c, result, class)
	}
	for _, text := range texts {
		if !strings.Contains(c.Detail+"\n"+c.Fix, text) {
			t.Errorf("%+v: want %q", c, text)
		}
	}
}

func TestAllIsWell(t *testing.T) {
	t.Parallel()
	r := newRig(t, serving{})
	r.Config.Capture = []service.CaptureConfig{{}}
	r.Config.Capture[0].Interface = "up0"
	r.Config.Watch = []watch.Config{{Path: t.TempDir(), After: watch.AfterMove, MoveTo: "done"}}
	report := r.look(t)
	var ids []string
	for _, c := range report.Checks {
		ids = append(ids, c.ID)
		// An agent does not run, a temporary directory may be in memory.
		if c.Result == Fail || c.Result == Warn && c.ID != "agent" && c.ID != "state" {
			t.Errorf("%+v", c)
		}
	}
	if !report.OK || report.Gravest() != "" {
		t.Errorf("%+v", report)
	}
	want := []string{"config", "state", "space", "ledger", "audit", "queue", "agent", "sandbox", "capture[0]", "watch[0]", "inotify", "cloudshark.network", "cloudshark.tls", "cloudshark.token", "clock"}
	if runtime.GOOS != "linux" {
		want = slices.DeleteFunc(want, func(id string) bool { return id == "sandbox" || id == "inotify" })
	}
	if !slices.Equal(ids, want) {
		t.Errorf("%v, want %v", ids, want)
	}
}

func TestTheServersIdentity(t *testing.T) {
	t.Parallel()
	t.Run("known", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, serving{})
		r.wants(t, "cloudshark.tls", OK, "", "TLS 1.3", "Example CA", r.ca)
	})
	t.Run("private CA", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, serving{})
		r.Config.CloudShark.CAFile = ""
		r.wants(t, "cloudshark.tls", Fail, Unavailable, "Example CA", "[cloudshark] ca_file")
		r.wants(t, "cloudshark.network", OK, "", "127.0.0.1:")
		r.wants(t, "cloudshark.token", Skip, "")
	})
	t.Run("ends soon", func(t *testing.T) {
		t.Parallel()
		ends := time.Now().Add(29 * 24 * time.Hour)
		r := newRig(t, serving{ends: ends})
		r.wants(t, "cloudshark.tls", Warn, "", "renewed before "+ends.UTC().Format(time.DateOnly))
	})
}

func TestTheClock(t *testing.T) {
	t.Parallel()
	for off, want := range map[time.Duration]Result{
		20 * time.Second: OK, -20 * time.Second: OK, 40 * time.Second: Warn, -40 * time.Second: Warn, 6 * time.Minute: Fail, -6 * time.Minute: Fail,
	} {
		r := newRig(t, serving{off: off})
		c := r.check(t, "clock")
		if c.Result != want || want != OK && strings.Contains(c.Detail, "behind") != (off > 0) {
			t.Errorf("%s: %+v", off, c)
		}
	}
}

func TestTheToken(t *testing.T) {
	t.Parallel()
	r := newRig(t, serving{})
	r.Config.CloudShark.Token = secret.New(strings.Repeat("0", 32))
	r.wants(t, "cloudshark.token", Fail, Permission, "missing or invalid", "copy it again")
	if got := r.look(t).Gravest(); got != Permission {
		t.Errorf("the gravest is %q", got)
	}
}

func TestAServerThatIsNotThere(t *testing.T) {
	t.Parallel()
	r := newRig(t, serving{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	r.Config.CloudShark.URL = "https://" + l.Addr().String()
	ok(t, l.Close())
	r.wants(t, "cloudshark.network", Fail, Unavailable, "is the server running")
	r.wants(t, "cloudshark.tls", Skip, "")
	r.wants(t, "cloudshark.token", Skip, "")
	r.wants(t, "clock", Skip, "")
}

// What does not answer must hold nobody up, and hide nothing else.
func TestNothingHangs(t *testing.T) {
	t.Parallel()
	r := newRig(t, serving{})
	l, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	ok(t, err)
	defer func() { _ = l.Close() }()
	r.Config.CloudShark.URL = "https://" + l.Addr().String()
	r.Config.Capture = []service.CaptureConfig{{}}
	r.Config.Capture[0].Interface = "up0"
	never := make(chan struct{})
	defer close(never)
	r.interfaces = func() ([]live.Interface, error) { <-never; return nil, nil }
	r.limit = time.Second
	began := time.Now()
	report := r.look(t)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
	results := map[string]Check{}
	for _, c := range report.Checks {
		results[c.ID] = c
	}
	if c := results["capture[0]"]; c.Result != Fail || !strings.Contains(c.Detail, "no answer within 1s") {
		t.Errorf("%+v", c)
	}
	if c := results["cloudshark.network"]; c.Result != Fail || c.Class != Unavailable {
		t.Errorf("%+v", c)
	}
	if c := results["state"]; c.Result == Fail {
		t.Errorf("%+v", c)
	}
}

func TestInterfaces(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]Check{
		"up0":     {Result: OK},
		"down0":   {Result: Warn, Detail: "down0 is down"},
		"other0":  {Result: Fail, Class: Configuration, Detail: "other0"},
		"denied0": {Result: Fail, Class: Permission, Detail: "not permitted", Fix: "allow it with: sudo something"},
	} {
		r := newRig(t, serving{})
		r.Config.Capture = []service.CaptureConfig{{}}
		r.Config.Capture[0].Interface = name
		r.wants(t, "capture[0]", want.Result, want.Class, want.Detail, want.Fix)
	}
}

func TestFolders(t *testing.T) {
	t.Parallel()
	r := newRig(t, serving{})
	file := filepath.Join(t.TempDir(), "file")
	ok(t, os.WriteFile(file, nil, 0o600))
	r.Config.Watch = []watch.Config{{Path: filepath.Join(t.TempDir(), "nowhere"), After: watch.AfterKeep}, {Path: file, After: watch.AfterKeep}}
	r.wants(t, "watch[0]", Fail, Configuration, "nowhere", "mount it")
	r.wants(t, "watch[1]", Fail, Configuration, "is no folder")
	if left, err := os.ReadDir(filepath.Dir(file)); err != nil || len(left) != 1 {
		t.Errorf("looking left something behind: %v %v", left, err)
	}
}

func TestTheConfiguration(t *testing.T) {
	t.Parallel()
	r := newRig(t, serving{})
	r.Wrong = errors.New("agent.toml:3:1: lgo: unknown table")
	r.wants(t, "config", Fail, Configuration, "lgo", "/etc/capagent/agent.toml", "capagent check")
	r.Config.Loaded = nil
	r.wants(t, "config", Fail, Configuration, "agent.toml.example", "capagent sandbox")
	r.Config.CloudShark.URL = ""
	r.wants(t, "cloudshark.network", Skip, "")
}

func TestTheStateDirectory(t *testing.T) {
	t.Parallel()
	r := newRig(t, serving{})
	file := filepath.Join(t.TempDir(), "file")
	ok(t, os.WriteFile(file, nil, 0o600))
	r.Config.Agent.StateDir = file
	r.wants(t, "state", Fail, Configuration, "no directory")
	r.Config.Agent.StateDir = filepath.Join(t.TempDir(), "later")
	r.wants(t, "state", OK, "", "is not there yet")
	if _, err := os.Stat(r.Config.Agent.StateDir); err == nil {
		t.Error("looking made it")
	}
	if runtime.GOOS == "linux" {
		r.Config.Agent.StateDir = "/proc/capagent"
		r.wants(t, "state", Fail, Permission, "sudo install -d")
	}
	r.Config.Agent.StateDir = t.TempDir()
	r.Config.Retention.MinFree = 1 << 62
	r.wants(t, "space", Fail, Failed, "[retention] max_size")
}

func TestTheLedger(t *testing.T) {
	t.Parallel()
	r := newRig(t, serving{})
	l, err := ledger.Open(t.Context(), r.Config.LedgerPath(), ledger.Options{})
	ok(t, err)
	made, err := l.Register(t.Context(), []ledger.Found{{
		Source: "import", Path: "/a.pcap", Name: "a.pcap", Destination: r.Config.Destination(), State: ledger.Queued,
		Inspection: ledger.Inspection{SHA256: strings.Repeat("a", 64)},
	}})
	ok(t, err)
	_, err = l.Begin(t.Context(), made[0].ID, "cloudshark")
	ok(t, err)
	ok(t, l.Fail(t.Context(), made[0].ID, "cloudshark", ledger.StepFailure{Class: "not_capture", Text: "no capture", Permanent: true}))
	ok(t, l.Close())
	r.wants(t, "ledger", OK, "", "is whole")
	r.wants(t, "queue", Warn, "", "1 failed", "capagent retry --all")
	text, err := os.ReadFile(r.Config.LedgerPath())
	ok(t, err)
	for i := 100; i < 4096 && i < len(text); i++ {
		text[i] = 0xff
	}
	ok(t, os.WriteFile(r.Config.LedgerPath(), text, 0o600))
	r.wants(t, "ledger", Fail, Failed, "restart the agent")
	r.wants(t, "queue", Skip, "")
}

// speaking is an agent that says what a test wants.
type speaking struct {
	control.Backend
	status control.Status
}

func (s speaking) Status(context.Context) (control.Status, error) { return s.status, nil }

func TestARunningAgentIsAskedForItsOwnView(t *testing.T) {
	t.Parallel()
	r := newRig(t, serving{})
	folder, why := filepath.Join(t.TempDir(), "mounted later"), "permission denied"
	r.Config.Watch = []watch.Config{{Path: folder, After: watch.AfterKeep}}
	r.Config.Capture = []service.CaptureConfig{{}}
	r.Config.Capture[0].Interface = "denied0"
	hint := "mount it"
	b := speaking{status: control.Status{Version: "0.9.0", Agent: &control.Agent{
		PID: os.Getpid(), State: control.Degraded, Text: "running",
		Problems: []control.Problem{{Text: "a folder is away", Hint: &hint}},
		Watches:  []control.Watch{{Path: folder, State: string(watch.Unavailable), Error: &why}},
		Captures: []control.Capture{{Name: "denied0", State: control.Capturing, Interfaces: []string{"denied0"}}},
	}}}
	server, err := control.Listen(t.Context(), r.Control, r.Config.Control, r.Log)
	ok(t, err)
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, b) }()
	defer func() { stop(); <-served }()
	r.wants(t, "agent", Warn, "", "0.9.0", "1.0.0", "a folder is away", "mount it")
	r.wants(t, "watch[0]", Fail, Permission, "permission denied")
	r.wants(t, "capture[0]", OK, "", "the agent captures from denied0")
	if runtime.GOOS == "linux" {
		c := r.check(t, "sandbox")
		if !strings.Contains(c.Detail, "system calls filtered") {
			t.Errorf("%+v", c)
		}
	}
}

func TestTheGravestClass(t *testing.T) {
	t.Parallel()
	for want, has := range map[Class][]Class{
		Configuration: {Failed, Unavailable, Configuration, Permission},
		Permission:    {Failed, Unavailable, Permission},
		Unavailable:   {Failed, Unavailable},
		Failed:        {Failed},
		"":            {},
	} {
		r := Report{Checks: []Check{about("w", "w").warn("x", "y")}}
		for _, class := range has {
			r.Checks = append(r.Checks, about("f", "f").fail(class, "fix", "detail"))
		}
		if got := r.Gravest(); got != want {
			t.Errorf("%v: %q, want %q", has, got, want)
		}
	}
}
