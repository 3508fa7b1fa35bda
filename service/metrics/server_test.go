package metrics_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"capagent/internal/secret"
	"capagent/service/control"
	"capagent/service/metrics"
	"capagent/service/metrics/observe"
)

func TestOnlyThreePathsAndTwoMethods(t *testing.T) {
	at := start(t, metrics.Options{})
	for _, tc := range []struct {
		method, path string
		want         int
	}{
		{http.MethodGet, "/metrics", 200},
		{http.MethodHead, "/metrics", 200},
		{http.MethodGet, "/metrics?name[]=capagent_up", 200},
		{http.MethodPost, "/metrics", 405},
		{http.MethodDelete, "/-/ready", 405},
		{http.MethodOptions, "/-/healthy", 405},
		{http.MethodPost, "/elsewhere", 404},
		{http.MethodGet, "/", 404},
		{http.MethodGet, "/metrics/", 404},
		{http.MethodGet, "//metrics", 404},
		{http.MethodGet, "/-/reload", 404},
		{http.MethodGet, "/debug/pprof/", 404},
		{http.MethodGet, "/-/healthy", 200},
		{http.MethodGet, "/-/ready", 200},
	} {
		code, body, header := ask(t, tc.method, at, tc.path, "")
		if code != tc.want || code == 405 && header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s %s: %d %s", tc.method, tc.path, code, body)
		}
		if tc.method == http.MethodHead && body != "" || header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s %s: %v %s", tc.method, tc.path, header, body)
		}
	}
}

func TestHealth(t *testing.T) {
	var mu sync.Mutex
	var healthy, ready error
	at := start(t, metrics.Options{
		Healthy:  func() error { mu.Lock(); defer mu.Unlock(); return healthy },
		Ready:    func() error { mu.Lock(); defer mu.Unlock(); return ready },
		Redactor: secret.NewRedactor(secret.New("0123456789abcdef")),
	})
	check := func(path string, code int, body string) {
		t.Helper()
		if gotCode, got := get(t, at, path); gotCode != code || got != body+"\n" {
			t.Errorf("%s: %d %q", path, gotCode, got)
		}
	}
	check("/-/healthy", 200, "ok")
	check("/-/ready", 200, "ok")
	mu.Lock()
	healthy, ready = errors.New("the sender has not moved for 5m0s\n(token 0123456789abcdef)"), errors.New("starting")
	mu.Unlock()
	check("/-/healthy", 500, `not healthy: the sender has not moved for 5m0s\n(token ***)`)
	check("/-/ready", 503, "not ready: starting")
}

// A web page whose name was made to point here is told nothing.
func TestOnLoopbackOtherNamesAreRefused(t *testing.T) {
	at := start(t, metrics.Options{})
	_, port, _ := net.SplitHostPort(at)
	for host, want := range map[string]int{
		at: 200, "localhost:" + port: 200, "localhost": 200, "[::1]:" + port: 200, "[::1]": 200,
		"evil.example:" + port: 421, "evil.example": 421, "localhost.evil.example": 421,
	} {
		if code, body, _ := ask(t, http.MethodGet, at, "/metrics", host); code != want {
			t.Errorf("%s: %d %s", host, code, body)
		}
	}
	_, port, _ = net.SplitHostPort(start(t, metrics.Options{Config: metrics.Config{Listen: ":0", AllowRemote: true}}))
	if code, body, _ := ask(t, http.MethodGet, "127.0.0.1:"+port, "/-/ready", "sensor.example"); code != 200 {
		t.Error(code, body)
	}
}

func TestHeadersAreBounded(t *testing.T) {
	at := start(t, metrics.Options{})
	conn, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	go func() {
		_, _ = fmt.Fprintf(conn, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nX: %s\r\n\r\n", strings.Repeat("x", 64<<10))
	}()
	if line, err := bufio.NewReader(conn).ReadString('\n'); err == nil && !strings.Contains(line, "431") {
		t.Error(line)
	}
}

// An agent that hangs is asked once, and told of as one that does not answer.
func TestAnAgentThatHangs(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	release := make(chan struct{})
	at := start(t, metrics.Options{
		Status: func(context.Context) (control.Status, error) {
			asked.Add(1)
			<-release
			return everything(), nil
		},
		Healthy: func() error { <-release; return nil },
	})
	begun := time.Now()
	var group sync.WaitGroup
	for range 3 {
		group.Go(func() {
			if code, page := get(t, at, "/metrics"); code != 200 || !strings.Contains(page, "capagent_up 0\n") {
				t.Error(code, page)
			}
		})
	}
	group.Go(func() {
		if code, body := get(t, at, "/-/healthy"); code != 500 || !strings.Contains(body, "did not answer within 5s") {
			t.Error(code, body)
		}
	})
	group.Wait()
	if took := time.Since(begun); took > 20*time.Second || asked.Load() != 1 {
		t.Errorf("%v, asked %d times", took, asked.Load())
	}
	close(release)
	for range 100 { // what hung has to end first
		if _, page := get(t, at, "/metrics"); strings.Contains(page, "capagent_up 1\n") {
			return
		}
	}
	t.Error("the agent stays down")
}

// A status that keeps to its ctx is let go of when the server ends.
func TestTheEndIsNotWaitedFor(t *testing.T) {
	asked := make(chan struct{})
	begun := time.Now()
	t.Run("run", func(t *testing.T) {
		at := start(t, metrics.Options{Status: func(ctx context.Context) (control.Status, error) {
			close(asked)
			<-ctx.Done()
			return control.Status{}, ctx.Err()
		}})
		go func() {
			if reply, err := http.Get("http://" + at + "/metrics"); err == nil {
				_ = reply.Body.Close()
			}
		}()
		<-asked
	})
	if took := time.Since(begun); took > 4*time.Second {
		t.Errorf("the end took %v", took)
	}
}

func TestAnAddressThatIsTakenIsTriedAgain(t *testing.T) {
	t.Parallel()
	first, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	told := make(chan error, 10)
	dir := t.TempDir()
	file := filepath.Join(dir, "capagent.prom")
	run(t, metrics.Options{
		Config: metrics.Config{Listen: first.Addr().String(), Textfile: file}, Status: answers(everything()),
		Trouble: func(part string, err error) {
			if part == "listener" {
				told <- err
			}
		},
	})
	if err := <-told; err == nil {
		t.Error("it listens")
	}
	_ = first.Close()
	if err := <-told; err != nil {
		t.Error(err)
	}
	if code, _ := get(t, first.Addr().String(), "/-/ready"); code != 200 {
		t.Error(code)
	}
	if _, err := os.Stat(file); err != nil {
		t.Error(err) // the one does not wait for the other
	}
}

func TestTheTextfile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "sub", "capagent.prom")
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		told := make(chan error, 10)
		ctx, cancel := context.WithCancel(t.Context())
		cfg := observe.DefaultConfig()
		cfg.Textfile = file
		ended := make(chan error)
		go func() {
			ended <- metrics.New(metrics.Options{
				Config: cfg, Observer: observed(),
				Status: func(ctx context.Context) (control.Status, error) {
					v := everything()
					v.Agent.Captures = append(v.Agent.Captures, v.Agent.Captures...) // no trouble
					if v.Flagged = asked.Add(1); v.Flagged == 4 {
						<-ctx.Done()
						return v, ctx.Err()
					}
					return v, nil
				},
				Trouble: func(_ string, err error) { told <- err },
			}).Run(ctx)
		}()
		synctest.Wait()
		if err := <-told; !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
		if err := os.Mkdir(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		for want := 2; want < 4; want++ {
			time.Sleep(30 * time.Second)
			synctest.Wait()
			text, err := os.ReadFile(file)
			if err = errors.Join(err, <-told); err != nil {
				t.Fatal(err)
			}
			has(t, string(text), fmt.Sprintf("capagent_captures_flagged %d", want), `capagent_lookup_cache_hits_total{source="threatconnect"} 5`)
			families(t, string(text))
		}
		// Who ends while the agent is asked does not say that it did not answer.
		time.Sleep(30 * time.Second)
		synctest.Wait()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if text, _ := os.ReadFile(file); asked.Load() != 4 || !strings.Contains(string(text), "capagent_captures_flagged 3\n") {
			t.Errorf("asked %d times\n%s", asked.Load(), text)
		}
	})
	info, err := os.Stat(file)
	if err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o644 {
		t.Error(info, err) // the collector is another user
	}
	if list, _ := os.ReadDir(filepath.Dir(file)); len(list) != 1 {
		t.Error(list)
	}
}

func TestNothingIsConfigured(t *testing.T) {
	if err := metrics.New(metrics.Options{Config: observe.DefaultConfig(), Status: answers(everything())}).Run(t.Context()); err != nil {
		t.Error(err)
	}
}
