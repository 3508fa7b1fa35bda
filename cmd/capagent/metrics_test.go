//go:build unix

package main

import (
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"capagent/internal/ledger"
)

// fetch asks the agent's metrics listener; it may need a moment after a reload.
func fetch(t *testing.T, url string) (status int, body string) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		resp, err := http.Get(url)
		if err != nil {
			if time.Now().After(end) {
				t.Fatal(err)
			}
			continue
		}
		text, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(text)
	}
}

// TestMetricsAndHealth: what the agent does is told as numbers, also after a reload.
func TestMetricsAndHealth(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	e := newExplainedAgent(t, "[metrics]\nlisten = \""+address+"\"\n")
	agent := startDaemon(t, e.config)
	e.put(t, "incident.pcapng")
	e.capture(t, "incident.pcapng", in(ledger.Done))
	base := "http://" + address
	for path, want := range map[string]int{"/-/healthy": 200, "/-/ready": 200, "/": 404} {
		if status, body := fetch(t, base+path); status != want {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	check := func(wants ...string) {
		t.Helper()
		_, body := fetch(t, base+"/metrics")
		for _, want := range wants {
			if !strings.Contains(body, want) {
				t.Errorf("no %s in %s", want, body)
			}
		}
		if strings.Contains(body, e.tc.SecretKey) {
			t.Error("a secret is in the metrics")
		}
	}
	wants := []string{
		"capagent_up 1", `capagent_captures{state="done"} 1`, "capagent_captures_flagged 1",
		`capagent_step_seconds_count{outcome="done",step="cloudshark"} 1`, `capagent_lookup_cache_misses_total{source="threatconnect"} `,
	}
	check(wants...)
	if o := e.run(t, "reload", "--config", e.config); o.code != exitOK {
		t.Fatalf("%+v", o)
	}
	agent.wait("reloaded")
	check(wants...) // what was counted stays
	if promtool, err := exec.LookPath("promtool"); err == nil {
		_, body := fetch(t, base+"/metrics")
		cmd := exec.CommandContext(t.Context(), promtool, "check", "metrics")
		cmd.Stdin, cmd.Stderr = strings.NewReader(body), os.Stderr
		if err := cmd.Run(); err != nil {
			t.Error(err)
		}
	}
	if o := e.run(t, "status"); strings.Contains(o.stdout, "metrics can't be told") {
		t.Errorf("%s", o.stdout)
	}
}
