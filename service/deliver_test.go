package service

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"capagent/enrich/cadotest"
	"capagent/enrich/cloudsharetest"
	"capagent/enrich/cloudtraxtest"
	"capagent/enrich/device"
	"capagent/internal/failure"
	"capagent/internal/ledger"
	"capagent/internal/standin"
	"capagent/upload/cloudsharktest"
)

// delivering is an agent with a flagged capture whose machine CloudTrax and CloudShare
// know, and everything that may be done because of it.
type delivering struct {
	*Agent
	cado   *cadotest.Server
	trax   *cloudtraxtest.Server
	share  *cloudsharetest.Server
	config Config
	id     int64
}

func newDelivering(t *testing.T) *delivering {
	t.Helper()
	shark := cloudsharktest.Start(t, cloudsharktest.Options{})
	d := &delivering{
		cado: cadotest.Start(t, cadotest.Options{Polls: 1}), trax: cloudtraxtest.Start(t, cloudtraxtest.Options{AlwaysCurrent: true}),
		share: cloudsharetest.Start(t, cloudsharetest.Options{}),
	}
	mac := device.MAC{0x00, 0x00, 0x5e, 0x00, 0x53, 0xb2}
	d.trax.Demo(mac)
	lab := d.share.Demo("files.example.net", "203.0.113.66")
	bad := filepath.Join(t.TempDir(), "bad.txt")
	if err := os.WriteFile(bad, []byte("files.example.net\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	d.config, err = load(t, fmt.Sprintf(`[agent]
state_dir = %q
[cloudshark]
url = %q
token = %q
[[list]]
name = "company"
file = %q
[cado]
url = %q
api_key = %q
import = "flagged"
poll = "1s"
[cloudtrax]
url = %q
key = %q
secret = %q
block = true
block_dry_run = false
block_on = ["files.example.net"]
[cloudshare]
url = %q
api_id = %q
api_key = %q
domains = ["example.net"]
preserve = true
preserve_flagged = true
preserve_allow = [%q]
`, t.TempDir(), shark.URL, shark.Token, bad, d.cado.APIURL(), d.cado.APIKey, d.trax.URL, d.trax.Key, d.trax.Secret, d.share.APIURL(), d.share.APIID, d.share.APIKey, lab))
	if err != nil {
		t.Fatal(err)
	}
	d.open(t)
	d.capture(t)
	return d
}

// open begins anew, as after a crash.
func (d *delivering) open(t *testing.T) {
	t.Helper()
	a, err := Open(t.Context(), d.config, "1.2.3", NewGate(OneShot), zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	d.Agent = a
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
}

// capture makes a session of the beacon of the branch office, of a moment ago.
func (d *delivering) capture(t *testing.T) {
	t.Helper()
	pcap, err := os.ReadFile("../examples/captures/branch-office/beacon.pcap")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "now.pcap")
	if err := os.WriteFile(path, pcap, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := d.Add(t.Context(), path, AddOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Send(t.Context(), []ledger.Capture{c}, func(_ int, _ ledger.Capture, err error) {
		if err != nil {
			t.Error(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	d.id = c.ID
	// CloudTrax names devices of now only; this capture is old.
	mac := device.MAC{0x00, 0x00, 0x5e, 0x00, 0x53, 0xb2}
	known, err := d.Ledger.Devices(t.Context(), c.ID)
	if err != nil {
		t.Fatal(err)
	}
	list, err := device.Decode(known)
	if err != nil {
		t.Fatal(err)
	}
	data, err := encodeDevices(append(list, device.Device{Source: "cloudtrax", Kind: "client", Name: "reception-ipad", Confidence: device.High, MAC: &mac}))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Ledger.Explain(t.Context(), c.ID, ledger.Explained{Devices: data}); err != nil {
		t.Fatal(err)
	}
}

func (d *delivering) deliverer(t *testing.T, name string) Deliverer {
	t.Helper()
	for _, one := range d.Deliverers {
		if one.Name() == name {
			return one
		}
	}
	t.Fatalf("there is no %s", name)
	return nil
}

// delivery is how one stands.
func (d *delivering) delivery(t *testing.T, name string) ledger.Delivery {
	t.Helper()
	list, err := d.Ledger.Deliveries(t.Context(), d.id)
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range list {
		if one.Destination == name {
			return one
		}
	}
	t.Fatalf("nothing is to be delivered to %s", name)
	return ledger.Delivery{}
}

// until carries deliveries out until one has ended.
func (d *delivering) until(t *testing.T, by Deliverer) {
	t.Helper()
	for range 20 {
		next, err := d.DeliverDue(t.Context(), by, func(ledger.Capture, ledger.Delivery, error) {})
		if err != nil {
			t.Fatal(err)
		}
		if d.delivery(t, by.Name()).State != ledger.DeliveryPending {
			return
		}
		time.Sleep(min(max(time.Until(next), 0), 2*time.Second))
	}
	t.Fatalf("%+v", d.delivery(t, by.Name()))
}

// TestDeliverersKeepToWhatIsAskedOfAll: what is true of each of them.
func TestDeliverersKeepToWhatIsAskedOfAll(t *testing.T) {
	for name, count := range map[string]func(d *delivering) int{
		deliverCado:     func(d *delivering) int { return d.cado.Counted("import") },
		deliverBlock:    func(d *delivering) int { return d.trax.Counted("block") },
		deliverPreserve: func(d *delivering) int { return d.share.Counted("snapshot") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDelivering(t)
			by := d.deliverer(t, name)
			secrets := []string{d.cado.APIKey, d.trax.Secret, d.share.APIKey}
			t.Run("a destination that does not answer fails nothing", func(t *testing.T) { d.outage(t, by, secrets) })
			t.Run("one that is cancelled ends, and is no failure", func(t *testing.T) { d.cancelled(t, by) })
			d.until(t, by)
			got := d.delivery(t, name)
			if got.State != ledger.DeliveryDone || got.Note == "" || got.Error != "" {
				t.Errorf("%+v", got)
			}
			done := count(d)
			// After a crash, with a ledger that does not know how far it came.
			d.open(t)
			if _, err := d.DeliverDue(t.Context(), d.deliverer(t, name), func(ledger.Capture, ledger.Delivery, error) { t.Error("it is delivered again") }); err != nil {
				t.Error(err)
			}
			if n := count(d); n != done {
				t.Errorf("done %d times, and then %d", done, n)
			}
			for _, s := range secrets {
				if strings.Contains(got.Note+got.Link+string(got.Progress), s) {
					t.Error("a key is in what is recorded")
				}
			}
		})
	}
}

func (d *delivering) outage(t *testing.T, by Deliverer, secrets []string) {
	for _, fault := range []string{"status:code=503", "html", "reset", "unauthorized", "echo"} {
		f, err := standin.ParseFault(fault, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []*standin.Server{d.cado.Server, d.trax.Server, d.share.Server} {
			s.SetFault(f)
		}
		d.HurryDeliveries()
		if _, err := d.Ledger.Redeliver(t.Context(), d.id); err != nil {
			t.Fatal(err)
		}
		if _, err := d.DeliverDue(t.Context(), by, func(ledger.Capture, ledger.Delivery, error) {}); err != nil {
			t.Errorf("%s: %v", fault, err)
		}
		got := d.delivery(t, by.Name())
		if got.State == ledger.DeliveryDone || got.Error == "" {
			t.Errorf("%s: %+v", fault, got)
		}
		for _, s := range secrets {
			if strings.Contains(got.Error+got.Note, s) {
				t.Errorf("%s: a key is in %q", fault, got.Error)
			}
		}
	}
	for _, s := range []*standin.Server{d.cado.Server, d.trax.Server, d.share.Server} {
		s.ClearFaults()
	}
	d.HurryDeliveries()
	if _, err := d.Ledger.Redeliver(t.Context(), d.id); err != nil {
		t.Fatal(err)
	}
}

func (d *delivering) cancelled(t *testing.T, by Deliverer) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	before := d.delivery(t, by.Name())
	if _, err := d.DeliverDue(ctx, by, func(ledger.Capture, ledger.Delivery, error) {}); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if after := d.delivery(t, by.Name()); after.State != ledger.DeliveryPending || after.Attempts != before.Attempts {
		t.Errorf("%+v", after)
	}
}

// broken fails as it is told.
type broken struct{ err error }

func (broken) Name() string               { return "broken" }
func (broken) Wants() (all, flagged bool) { return true, true }
func (broken) Close()                     {}
func (b broken) Deliver(context.Context, ledger.Capture, *ledger.Delivery, func() error) error {
	return b.err
}

// TestWhatAFailureMeansForADelivery: later, never again, or all of them later.
func TestWhatAFailureMeansForADelivery(t *testing.T) {
	d := newDelivering(t)
	if err := d.Ledger.Deliver(t.Context(), d.id, "broken"); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		err      error
		state    ledger.DeliveryState
		attempts int
		wait     time.Duration
	}{
		{&failure.Error{Class: ClassRunning, RetryAfter: 7 * time.Second, Err: errors.New("at work")}, ledger.DeliveryPending, 0, 7 * time.Second},
		{&failure.Error{Class: "busy", Err: errors.New("busy")}, ledger.DeliveryPending, 1, deliverAgain},
		{&failure.Error{Class: "busy", RetryAfter: time.Hour, Err: errors.New("busy")}, ledger.DeliveryPending, 1, time.Hour},
		{&failure.Error{Kind: failure.Pause, Class: "bad_key", Err: errors.New("no")}, ledger.DeliveryPending, 1, deliverPause},
		{errNotWanted, ledger.DeliverySkipped, 0, 0},
	} {
		d.HurryDeliveries()
		if _, err := d.Ledger.Redeliver(t.Context(), d.id); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if _, err := d.DeliverDue(t.Context(), broken{tc.err}, func(ledger.Capture, ledger.Delivery, error) {}); err != nil {
			t.Fatal(err)
		}
		got := d.delivery(t, "broken")
		if got.State != tc.state || got.Attempts != tc.attempts {
			t.Errorf("%v: %+v", tc.err, got)
		}
		if wait := got.NotBefore.Sub(start); tc.wait > 0 && (wait < tc.wait || wait > tc.wait+5*time.Second) {
			t.Errorf("%v: again in %v", tc.err, wait)
		}
	}
}
