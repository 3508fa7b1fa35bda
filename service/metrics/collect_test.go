package metrics_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"capagent/internal/ledger"
	"capagent/service/control"
	"capagent/service/metrics"
	"capagent/service/metrics/observe"
)

// has checks that the page has these lines.
func has(t *testing.T, page string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains("\n"+page, "\n"+line+"\n") {
			t.Errorf("no line %s", line)
		}
	}
	if t.Failed() {
		t.Log(page)
	}
}

func TestAStatusBecomesNumbers(t *testing.T) {
	_, page := get(t, start(t, metrics.Options{Observer: observed()}), "/metrics")
	has(t, page,
		`capagent_up 1`,
		`capagent_info{version="1.2.3"} 1`,
		`capagent_start_timestamp_seconds 1.8000000005e+09`,
		`capagent_captures{state="queued"} 3`,
		`capagent_captures{state="held"} 0`,
		`capagent_captures_bytes{state="done"} 40000`,
		`capagent_captures_flagged 4`,
		`capagent_captures_possible_duplicates 1`,
		`capagent_destination_state{state="open"} 0`,
		`capagent_destination_state{state="paused"} 1`,
		`capagent_destination_state{state="probing"} 0`,
		`capagent_uploading 2`,
		`capagent_live_state{capture="lan",state="capturing"} 1`,
		`capagent_live_state{capture="wan",state="capturing"} 0`,
		`capagent_live_state{capture="wan",state="waiting"} 1`,
		`capagent_live_packets_total{capture="lan"} 1.099511627776e+12`,
		`capagent_live_dropped_packets_total{capture="lan",cause="kernel"} 7`,
		`capagent_live_dropped_packets_total{capture="lan",cause="disk"} 3`,
		`capagent_live_bytes_total{capture="lan"} 9000`,
		`capagent_live_files_total{capture="lan"} 5`,
		`capagent_watch_files{folder="/srv/pcap"} 12`,
		`capagent_watch_pending_files{folder="/srv/pcap"} 2`,
		`capagent_disk_free_bytes 5.36870912e+09`,
		`capagent_disk_min_free_bytes 1.073741824e+09`,
		`capagent_spool_bytes 6.291456e+06`,
		`capagent_problems{class="capture_open"} 2`,
		`capagent_problems{class="disk_full"} 1`,
		`capagent_deliveries{destination="cado",state="pending"} 1`,
		`capagent_deliveries{destination="cado",state="skipped"} 4`,
		`capagent_blocked_clients 1`,
		`capagent_step_seconds_bucket{outcome="done",step="cloudshark",le="1"} 0`,
		`capagent_step_seconds_bucket{outcome="done",step="cloudshark",le="5"} 1`,
		`capagent_lookup_cache_hits_total{source="threatconnect"} 5`,
		`capagent_lookup_cache_misses_total{source="threatconnect"} 2`,
	)
	all := families(t, page)
	for name, want := range map[string]float64{"capagent_backlog_age_seconds": 7200, "capagent_names_age_seconds": 60} {
		if got := all[name].GetMetric()[0].GetGauge().GetValue(); got < want || got > want+60 {
			t.Errorf("%s %v", name, got)
		}
	}
	if n := len(all["capagent_names_age_seconds"].GetMetric()); n != 1 {
		t.Errorf("%d sources have an age, but one was never asked", n)
	}
	if at := all["capagent_collected_timestamp_seconds"].GetMetric()[0].GetGauge().GetValue(); time.Since(time.Unix(int64(at), 0)).Abs() > time.Minute {
		t.Error(at)
	}
	if strings.Contains(page, "secret") {
		t.Error("texts and file names are told")
	}
}

func TestAnAgentWithoutAnythingIsAPageToo(t *testing.T) {
	_, page := get(t, start(t, metrics.Options{Status: answers(control.Status{Captures: map[ledger.State]ledger.Count{}, Agent: &control.Agent{}})}), "/metrics")
	has(t, page, `capagent_up 1`, `capagent_captures{state="queued"} 0`, `capagent_backlog_age_seconds 0`, `capagent_uploading 0`)
	families(t, page)
	// A ledger that can't be read is not an empty one.
	_, page = get(t, start(t, metrics.Options{Status: answers(control.Status{Agent: &control.Agent{}})}), "/metrics")
	has(t, page, `capagent_up 1`, `capagent_uploading 0`)
	if strings.Contains(page, "capagent_captures{") || strings.Contains(page, "backlog") {
		t.Error(page)
	}
}

// What names and lists hold can be odd; the page stays one that can be read.
func TestOddNames(t *testing.T) {
	v := everything()
	v.Version = "1\n\xff"
	v.Agent.Captures = append(v.Agent.Captures, control.Capture{Name: "lan", State: control.Scheduled, Packets: 1})
	v.Agent.Watches = []control.Watch{
		{Path: "/srv/a\"b\\c\n{d=\"e\"} 1", Files: 1},
		{Path: "/srv/\xff\xfe", Files: 2},
		{Path: "/" + strings.Repeat("ü", 1000), Files: 3},
		{Path: `C:\pcap`, Files: 4},
	}
	v.Agent.Problems = []control.Problem{{Class: "A server's\nwords"}, {Class: ""}, {Class: strings.Repeat("x", 41)}}
	o := observe.NewObserver()
	o.Step("cloudshark", "HTTP 500: <html>", -time.Second)
	o.Lookup("my \xff list", -1, 1)
	code, page := get(t, start(t, metrics.Options{Status: answers(v), Observer: o}), "/metrics")
	if code != http.StatusOK {
		t.Error(code)
	}
	families(t, page)
	has(t, page,
		`capagent_live_packets_total{capture="lan"} 1.099511627776e+12`,
		`capagent_live_state{capture="lan",state="capturing"} 1`,
		`capagent_watch_files{folder="C:\\pcap"} 4`,
		`capagent_watch_files{folder="/srv/\\xff\\xfe"} 2`,
		`capagent_problems{class="other"} 3`,
		`capagent_step_seconds_sum{outcome="other",step="cloudshark"} 0`,
		`capagent_lookup_cache_hits_total{source="my \\xff list"} 0`,
	)
	for line := range strings.Lines(page) {
		if len(line) > 400 {
			t.Errorf("a line of %d bytes", len(line))
		}
	}
}

func TestNobodyNeedsAnObserver(t *testing.T) {
	var o *metrics.Observer
	o.Step("cloudshark", "done", time.Second)
	o.Lookup("list", 1, 1)
	if _, page := get(t, start(t, metrics.Options{Observer: o}), "/metrics"); strings.Contains(page, "capagent_step") {
		t.Error(page)
	}
}

func TestAStatusThatFailsIsANumber(t *testing.T) {
	for name, status := range map[string]func(context.Context) (control.Status, error){
		"error": func(context.Context) (control.Status, error) { return everything(), errors.New("no ledger") },
		"panic": func(context.Context) (control.Status, error) { panic("oh") },
	} {
		t.Run(name, func(t *testing.T) {
			code, page := get(t, start(t, metrics.Options{Status: status, Observer: observed()}), "/metrics")
			if code != http.StatusOK {
				t.Error(code)
			}
			has(t, page, "capagent_up 0", `capagent_lookup_cache_hits_total{source="threatconnect"} 5`)
			if strings.Contains(page, "capagent_captures") {
				t.Error(page)
			}
			families(t, page)
		})
	}
}
