package capture_test

import (
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"capagent/capture"
)

var (
	here  = netip.MustParseAddrPort("192.0.2.1:40000")
	there = netip.MustParseAddrPort("198.51.100.7:443")
)

func TestFlowsAreToldAtOnceAndLeaveLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var flows capture.Flows
		var last atomic.Pointer[[]capture.Flow]
		note := func(now []capture.Flow) { last.Store(&now) }
		seen := func() []capture.Flow { synctest.Wait(); return *last.Load() }
		stop := flows.Watch(note)
		closed := flows.Connecting(here, there)
		if want := []capture.Flow{{Local: here, Remote: there}}; !slices.Equal(seen(), want) {
			t.Fatalf("after Connecting: %v", seen())
		}
		again := flows.Connecting(here, there) // the port may be used again at once
		closed()
		closed()
		time.Sleep(59 * time.Second)
		if len(seen()) != 2 {
			t.Errorf("right after the end: %v", seen())
		}
		time.Sleep(2 * time.Second)
		if len(seen()) != 1 {
			t.Errorf("a minute later: %v", seen())
		}
		stop()
		again()
		time.Sleep(time.Hour)
		if len(seen()) != 1 {
			t.Error("told after stop")
		}
		flows.Watch(note)()
		if len(seen()) != 0 {
			t.Errorf("in the end: %v", seen())
		}
	})
}

func TestExpressionWithout(t *testing.T) {
	flow := capture.Flow{Local: here, Remote: netip.MustParseAddrPort("[::ffff:198.51.100.7]:443")}
	own := "not ((tcp and ((src host 192.0.2.1 and src port 40000 and dst host 198.51.100.7 and dst port 443)" +
		" or (src host 198.51.100.7 and src port 443 and dst host 192.0.2.1 and dst port 40000))))"
	for expr, want := range map[string]string{"": own, "udp or vlan": own + " and (udp or vlan)"} {
		if got := capture.Without(expr, []capture.Flow{flow}); got != want {
			t.Errorf("%q: %s", expr, got)
		}
	}
	if got := capture.Without("udp", nil); got != "udp" {
		t.Errorf("without flows: %s", got)
	}
}
