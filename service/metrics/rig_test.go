package metrics_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"go.uber.org/goleak"

	"capagent/internal/ledger"
	"capagent/service"
	"capagent/service/control"
	"capagent/service/metrics"
	"capagent/service/metrics/observe"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func ptr[T any](v T) *T { return &v }

// everything is a status in which nothing is missing.
func everything() control.Status {
	now := time.Now()
	return control.Status{
		Version: "1.2.3", Destination: "https://cloudshark.example",
		Captures: map[ledger.State]ledger.Count{
			ledger.Queued: {Captures: 3, Bytes: 3000}, ledger.Done: {Captures: 40, Bytes: 40000}, ledger.Failed: {Captures: 1, Bytes: 10},
		},
		OldestQueued: ptr(now.Add(-2 * time.Hour)), Flagged: 4, PossibleDuplicates: 1,
		Agent: &control.Agent{
			PID: 42, Started: time.Unix(1_800_000_000, 500e6), State: control.Degraded, Text: "secret words",
			Uploading: []control.Uploading{{ID: 7, Name: "secret-name.pcap", Size: 1000}, {ID: 8, Name: "b.pcap", Size: 1}},
			Problems: []control.Problem{
				{Class: "capture_open", Text: "secret words", Since: now, Count: 3},
				{Class: "capture_open", Text: "others", Since: now, Count: 1},
				{Class: "disk_full", Text: "full", Since: now, Count: 1},
			},
			Watches: []control.Watch{{Path: "/srv/pcap", State: "watching", Files: 12, Pending: 2}},
			Captures: []control.Capture{
				{Name: "lan", State: control.Capturing, Interfaces: []string{"eth0"}, Packets: 1 << 40, Dropped: 7, Lost: 3, Bytes: 9000, Files: 5},
				{Name: "wan", State: control.Waiting, Interfaces: []string{"eth1"}, Problem: ptr("secret words")},
			},
			Destination: control.DestinationState{State: service.DoorPaused, Class: ptr("bad_token"), Reason: ptr("secret words")},
			Disk:        control.Disk{Free: 5 << 30, SpoolBytes: 6 << 20, MinFree: 1 << 30},
			Names:       []control.Names{{Source: "cloudtrax", Text: "3 networks", At: ptr(now.Add(-time.Minute))}, {Source: "cloudshare"}},
			Deliveries:  []control.Delivery{{Destination: "cado", Pending: 1, Done: 2, Failed: 3, Skipped: 4}},
			Blocked:     []control.Blocked{{MAC: "02:00:00:00:00:01", Name: "secret-phone", Until: now, Reason: "secret words"}},
		},
	}
}

func answers(v control.Status) func(context.Context) (control.Status, error) {
	return func(context.Context) (control.Status, error) { return v, nil }
}

// observed is an Observer that has seen one of everything.
func observed() *metrics.Observer {
	o := observe.NewObserver()
	o.Step("cloudshark", "done", 2*time.Second)
	o.Lookup("threatconnect", 5, 2)
	return o
}

// start runs a server on loopback until the test ends and returns its address.
func start(t *testing.T, o metrics.Options) string {
	t.Helper()
	at := make(chan string, 1)
	o.Listening = func(a net.Addr) { at <- a.String() }
	if o.Config.Listen == "" {
		o.Config.Listen = "127.0.0.1:0"
	}
	if o.Status == nil {
		o.Status = answers(everything())
	}
	run(t, o)
	return <-at
}

func run(t *testing.T, o metrics.Options) {
	t.Helper()
	if o.Config.TextfileEvery == 0 {
		o.Config.TextfileEvery = observe.DefaultConfig().TextfileEvery
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- metrics.New(o).Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		http.DefaultClient.CloseIdleConnections()
	})
}

// get asks for a path and returns the status and the body.
func get(t *testing.T, address, path string) (int, string) {
	t.Helper()
	code, body, _ := ask(t, http.MethodGet, address, path, "")
	return code, body
}

func ask(t *testing.T, method, address, path, host string) (int, string, http.Header) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+address+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = host
	reply, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reply.Body.Close() }()
	body, err := io.ReadAll(reply.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply.StatusCode, string(body), reply.Header
}

// families parses a page as Prometheus does, and lints it.
func families(t *testing.T, page string) map[string]*dto.MetricFamily {
	t.Helper()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	all, err := parser.TextToMetricFamilies(strings.NewReader(page))
	if err != nil {
		t.Fatalf("%v\n%s", err, page)
	}
	wrong, err := promlint.New(strings.NewReader(page)).Lint()
	if err != nil || len(wrong) > 0 {
		t.Errorf("promlint: %v %v", wrong, err)
	}
	return all
}

// whole is every metric that there is, by name.
func whole(t *testing.T) map[string]*dto.MetricFamily {
	t.Helper()
	code, page := get(t, start(t, metrics.Options{Observer: observed()}), "/metrics")
	if code != http.StatusOK {
		t.Fatal(code, page)
	}
	return families(t, page)
}
