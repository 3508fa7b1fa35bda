package api_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"capagent/enrich/cloudtrax/api"
	"capagent/enrich/cloudtraxtest"
	"capagent/internal/failure"
	"capagent/internal/httpx"
	"capagent/internal/secret"
	"capagent/internal/standin"
)

type logText struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func newClient(t *testing.T, s *cloudtraxtest.Server, log *logText) *api.Client {
	t.Helper()
	h, err := httpx.New(httpx.Options{UserAgent: "capagent/test", Table: "cloudtrax", MaxReply: api.MaxReply, IdleTimeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return api.New(api.Options{Origin: s.URL, Key: s.Key, Secret: secret.New(s.Secret), HTTP: h, Log: zerolog.New(log)})
}

func start(t *testing.T, o cloudtraxtest.Options) (*cloudtraxtest.Server, *api.Client, *logText) {
	t.Helper()
	s, log := cloudtraxtest.Start(t, o), &logText{}
	s.Demo()
	s.AddClient(cloudtraxtest.Client{Network: 12345, MAC: [6]byte{0, 0, 0x5e, 0, 0x53, 9}, CID: "31792"})
	return s, newClient(t, s, log), log
}

func TestEverythingIsSigned(t *testing.T) {
	s, c, _ := start(t, cloudtraxtest.Options{})
	id, _ := api.ParseID("12345")
	desk, _ := api.ParseID("7788")
	cid, _ := api.ParseCID("31792")
	for _, r := range []api.Read{api.Networks(), api.Nodes(id), api.Clients(id), api.ClientsOfDay(id), api.Switches(id), api.Switch(desk), api.Survey(id), api.Settings(id), api.Blocked(id)} {
		if data, err := c.Get(t.Context(), r); err != nil || len(data) == 0 {
			t.Errorf("%v: %v", r, err)
		}
	}
	a := api.NewActor(c)
	if err := a.Do(t.Context(), api.Block(id, cid, true)); err != nil || len(s.Blocked()) != 1 {
		t.Errorf("%v, %v", err, s.Blocked())
	}
	if err := a.Do(t.Context(), api.Block(id, cid, false)); err != nil || len(s.Blocked()) != 0 {
		t.Errorf("%v, %v", err, s.Blocked())
	}
	for _, r := range s.Requests() {
		if json := r.Header.Get("Content-Type") == "application/json"; json != (r.Method == http.MethodPut) || (len(r.Body) > 0) != json {
			t.Errorf("%s %s: %v", r.Method, r.Target, r.Header)
		}
	}
	if s.Counted("bad signature")+s.Counted("replay")+s.Counted("forbidden") != 0 {
		t.Error("something was refused")
	}
}

func TestNothingIsAskedForNothing(t *testing.T) {
	s, c, _ := start(t, cloudtraxtest.Options{})
	if _, err := c.Get(t.Context(), api.Read{}); !api.IsClass(err, api.ClassBadRequest) {
		t.Error(err)
	}
	if err := api.NewActor(c).Do(t.Context(), api.Block(api.ID{}, api.CID{}, true)); !api.IsClass(err, api.ClassBadRequest) {
		t.Error(err)
	}
	if n := len(s.Requests()); n != 0 {
		t.Errorf("%d requests", n)
	}
}

func TestWhatIsSentAgain(t *testing.T) {
	id, _ := api.ParseID("12345")
	cid, _ := api.ParseCID("31792")
	for name, tc := range map[string]struct {
		fault     standin.Fault
		get, put  int // requests
		getFails  bool
		putFails  bool
		wantClass string
	}{
		"a nonce, once":                      {standin.Fault{Name: "code", Text: "13003", Times: 1}, 2, 1, false, true, "nonce"},
		"a nonce, always":                    {standin.Fault{Name: "code", Text: "13003"}, 2, 1, true, true, "nonce"},
		"a clock":                            {standin.Fault{Name: "skew", By: -20 * time.Minute}, 2, 2, false, false, ""},
		"a clock that is right, and refused": {standin.Fault{Name: "code", Text: "13002"}, 1, 1, true, true, "clock"},
		"a lost answer":                      {standin.Fault{Name: "drop"}, 1, 1, true, true, "network"},
		"an exception":                       {standin.Fault{Name: "code", Text: "1000", Status: 500}, 1, 1, true, true, "server_error"},
		"busy":                               {standin.Fault{Name: "busy"}, 1, 1, true, true, "busy"},
	} {
		t.Run(name, func(t *testing.T) {
			s, c, _ := start(t, cloudtraxtest.Options{})
			s.SetFault(tc.fault)
			_, err := c.Get(t.Context(), api.Networks())
			if (err != nil) != tc.getFails || err != nil && !api.IsClass(err, tc.wantClass) || len(s.Requests()) != tc.get {
				t.Errorf("GET: %v after %d requests", err, len(s.Requests()))
			}
			s, c, log := start(t, cloudtraxtest.Options{})
			s.SetFault(tc.fault)
			err = api.NewActor(c).Do(t.Context(), api.Block(id, cid, true))
			if (err != nil) != tc.putFails || err != nil && !api.IsClass(err, tc.wantClass) || len(s.Requests()) != tc.put {
				t.Errorf("PUT: %v after %d requests", err, len(s.Requests()))
			}
			if s.Counted("block") > 1 {
				t.Error("blocked twice")
			}
			if said := strings.Contains(log.b.String(), "clock differs"); said != (tc.fault.Name == "skew") {
				t.Errorf("the log says %s", log.b.String())
			}
		})
	}
}

func TestASecretThatIsEchoedIsMasked(t *testing.T) {
	s, c, log := start(t, cloudtraxtest.Options{})
	for _, f := range []standin.Fault{{Name: "echo"}, {Name: "status", Text: strings.Repeat("x", 280) + s.Secret}, {Name: "html"}, {Name: "status", Status: 500, Text: "the line\nand \x1b[31mthe next"}} {
		s.SetFault(f)
		_, err := c.Get(t.Context(), api.Networks())
		if err == nil {
			t.Fatal("no error")
		}
		text := err.Error() + failure.As(err).Hint + log.b.String()
		for i := 0; i+12 <= len(s.Secret); i++ {
			if strings.Contains(text, s.Secret[i:i+12]) || strings.Contains(text, s.Key[i:i+12]) {
				t.Fatalf("%s: %s", f.Name, text)
			}
		}
		if strings.ContainsAny(text, "\n\x1b") || len(text) > 1000 {
			t.Errorf("%q", text)
		}
	}
}

func TestOneRequestAtATime(t *testing.T) {
	s, c, _ := start(t, cloudtraxtest.Options{})
	s.SetFault(standin.Fault{Name: "hang"})
	ctx, cancel := context.WithCancel(t.Context())
	var g sync.WaitGroup
	for range 5 {
		g.Go(func() {
			if _, err := c.Get(ctx, api.Networks()); !api.IsClass(err, httpx.ClassCanceled) {
				t.Error(err)
			}
		})
	}
	for len(s.Requests()) == 0 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	g.Wait()
	if n := len(s.Requests()); n != 1 {
		t.Errorf("%d requests at a time", n)
	}
}

func TestVersionAndRedirects(t *testing.T) {
	s, c, _ := start(t, cloudtraxtest.Options{})
	s.SetFault(standin.Fault{Name: "redirect"})
	if _, err := c.Get(t.Context(), api.Networks()); !api.IsClass(err, httpx.ClassRedirect) {
		t.Error(err)
	}
	for _, r := range s.Requests() {
		if r.Header.Get("OpenMesh-API-Version") != "1" || r.Method != http.MethodGet {
			t.Errorf("%+v", r)
		}
	}
}
