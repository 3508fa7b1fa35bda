package enrichtest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"capagent/enrich/device"
	"capagent/enrich/indicator"
)

// Namer is a source of devices.
type Namer interface {
	Name() string
	Devices(ctx context.Context, c device.Capture) ([]device.Device, error)
}

// DeviceOptions say what to test.
type DeviceOptions struct {
	// New returns a source that is ready (it has its first snapshot, where it makes
	// any), which it closes by t.Cleanup when there is anything to close.
	New func(t testing.TB) Namer
	// Known is a capture in which the source knows at least one device.
	Known device.Capture
	// Break makes the service behind all sources that New returned hang, and a
	// second call well again; nil for a source without a service.
	Break func() (mend func())
}

// Devices tests that a source keeps to what is asked of all.
func Devices(t *testing.T, o DeviceOptions) {
	t.Helper()
	for _, r := range deviceRules {
		before := goleak.IgnoreCurrent()
		t.Run(r.name, func(t *testing.T) {
			if err := r.check(t.Context(), o.New(t), o); err != nil {
				t.Error(err)
			}
		})
		if err := goleak.Find(before); err != nil {
			t.Errorf("%s: goroutines are left: %v", r.name, err)
		}
	}
}

var deviceRules = []struct {
	name  string
	check func(ctx context.Context, s Namer, o DeviceOptions) error
}{
	{"it knows what is known", deviceKnown},
	{"nothing is known of nothing", deviceNothing},
	{"hostile packets are harmless", deviceHarmless},
	{"many machines are no problem", deviceMany},
	{"it is used by many at once", deviceConcurrent},
	{"a service that hangs holds nobody up", deviceHung},
}

// devices asks and checks what every reply must be.
func devices(ctx context.Context, s Namer, c device.Capture) ([]device.Device, error) {
	list, err := s.Devices(ctx, c)
	if len(list) > device.MaxDevices {
		return nil, fmt.Errorf("%d devices of one capture", len(list))
	}
	for _, d := range list {
		if wrong := checkDevice(s, d); wrong != nil {
			return nil, fmt.Errorf("device %.80q: %w", d.Name, wrong)
		}
	}
	return list, err
}

func checkDevice(s Namer, d device.Device) error {
	for _, text := range append(append(append([]string{d.Kind, d.Name}, d.Details...), d.Limits...), d.Tags...) {
		if text == "" || text != device.Clean(text) {
			return fmt.Errorf("the text %.100q is not clean", text)
		}
	}
	switch {
	case d.Source != s.Name():
		return fmt.Errorf("the source is %q", d.Source)
	case d.Confidence == device.None || d.Confidence > device.High:
		return fmt.Errorf("the confidence is %v", d.Confidence)
	case len(d.Details) > device.MaxDetails:
		return fmt.Errorf("%d details", len(d.Details))
	case d.MAC == nil && len(d.IPs) == 0 && len(d.Hosts) == 0 && !d.Self:
		return errors.New("nothing in the capture belongs to it")
	case d.Link != "" && !strings.HasPrefix(d.Link, "https://") && !strings.HasPrefix(d.Link, "http://127.0.0.1"):
		return fmt.Errorf("the link is %q", d.Link)
	}
	return nil
}

func deviceKnown(ctx context.Context, s Namer, o DeviceOptions) error {
	if n := s.Name(); n == "" || n != s.Name() || strings.ContainsAny(n, ", \n") {
		return fmt.Errorf("the name is %q", n)
	}
	list, err := devices(ctx, s, o.Known)
	if err == nil && len(list) == 0 {
		err = errors.New("it knows nothing")
	}
	return err
}

func deviceNothing(ctx context.Context, s Namer, _ DeviceOptions) error {
	list, err := devices(ctx, s, device.Capture{})
	for _, d := range list {
		if !d.Self {
			return fmt.Errorf("%v", d)
		}
	}
	return err
}

func deviceHarmless(ctx context.Context, s Namer, o DeviceOptions) error {
	c := o.Known
	for _, q := range Hostile() {
		if q.Type == indicator.Host {
			c.Hosts = append(c.Hosts, q.Value)
			c.Answers = append(c.Answers, device.Answer{Host: q.Value})
		}
	}
	c.Addresses = append(c.Addresses, netip.Addr{}, netip.IPv6Unspecified(), netip.MustParseAddr("fe80::1%eth0"))
	c.Bindings = append(c.Bindings, indicator.Binding{Name: "\x1b[2J"}, indicator.Binding{MAC: [6]byte{255, 255, 255, 255, 255, 255}})
	c.Seen = append(c.Seen, device.Seen{}, device.Seen{MAC: device.MAC{255, 255, 255, 255, 255, 255}, Behind: -1})
	list, err := devices(ctx, s, c)
	if err == nil && len(list) == 0 {
		err = errors.New("it does not know any more what is known")
	}
	return err
}

func deviceMany(ctx context.Context, s Namer, o DeviceOptions) error {
	c := o.Known
	for i := range 50_000 {
		mac := device.MAC{0, 0x10, 0x20, byte(i >> 16), byte(i >> 8), byte(i)}
		ip := netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)})
		c.Seen = append(c.Seen, device.Seen{MAC: mac, Behind: 1, IPs: []netip.Addr{ip}})
		c.Bindings = append(c.Bindings, indicator.Binding{MAC: mac, IP: ip, Count: 1})
		c.Addresses = append(c.Addresses, ip)
		c.Hosts = append(c.Hosts, fmt.Sprintf("host-%d.enrichtest.invalid", i))
	}
	start := time.Now()
	list, err := devices(ctx, s, c)
	if err == nil && len(list) == 0 {
		err = errors.New("it does not know any more what is known")
	}
	if took := time.Since(start); took > 2*soon {
		return fmt.Errorf("it takes %v", took)
	}
	return err
}

func deviceConcurrent(ctx context.Context, s Namer, o DeviceOptions) error {
	errs := make([]error, 8)
	var g sync.WaitGroup
	for i := range errs {
		g.Go(func() { errs[i] = deviceKnown(ctx, s, o) })
	}
	g.Wait()
	return errors.Join(errs...)
}

func deviceHung(ctx context.Context, s Namer, o DeviceOptions) error {
	if o.Break == nil {
		return nil
	}
	mend := o.Break()
	defer mend()
	start := time.Now()
	c := o.Known
	c.Hosts = append([]string{"never-asked-before.vm.cld.sr"}, c.Hosts...)
	for range 3 {
		short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		_, _ = s.Devices(short, c) // it may say that it does not answer
		cancel()
	}
	if took := time.Since(start); took > soon {
		return fmt.Errorf("three times 200 ms were given, it took %v", took)
	}
	return nil
}
