package capture_test

import (
	"slices"
	"strings"
	"testing"

	"capagent/capture"
)

func TestConfig(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*capture.Config)
		want   string // key and text of each mistake
	}{
		{"as it is", func(*capture.Config) {}, ""},
		{"several", func(c *capture.Config) { c.Interface = "eth0, eth1" }, ""},
		{"any", func(c *capture.Config) { c.Interface = "any" }, ""},
		{"no interface", func(c *capture.Config) { c.Interface = " , " }, "interface: not set"},
		{"any and another", func(c *capture.Config) { c.Interface = "any,eth0" }, `interface: "any" is all`},
		{"one twice", func(c *capture.Config) { c.Interface = "eth0,eth1,eth0" }, "interface: an interface is named twice"},
		{"an unfit name", func(c *capture.Config) { c.Name = "../lan" }, "name: expected at most 64"},
		{"an unfit interface", func(c *capture.Config) { c.Interface = "Ethernet 2" }, "name: not set, and the interface's name"},
		{"an unfit interface with a name", func(c *capture.Config) { c.Interface, c.Name = "Ethernet 2", "lan" }, ""},
		{"a filter", func(c *capture.Config) { c.Filter = "tcp port 443 and vlan 7" }, ""},
		{"a filter for radio only", func(c *capture.Config) { c.Filter = "wlan type mgt" }, ""},
		{"a host that is not known now", func(c *capture.Config) { c.Filter = "host nobody.invalid" }, ""},
		{"an unknown host and a mistake", func(c *capture.Config) { c.Filter = "host nobody.invalid and (tcp" }, "filter: "},
		{"a mistake in a filter", func(c *capture.Config) { c.Filter = "tcp prot 443" }, "filter: "},
		{"snaplen", func(c *capture.Config) { c.SnapLen = 300_000 }, "snaplen: expected"},
		{"buffer", func(c *capture.Config) { c.Buffer = 1000 }, "buffer: expected"},
		{"fanout", func(c *capture.Config) { c.Fanout = 0 }, "fanout: expected"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var c capture.Config
			c.SetDefaults()
			c.Interface = "eth0"
			tc.change(&c)
			var got []string
			for _, e := range c.Validate() {
				got = append(got, e.Key+": "+e.Err.Error())
			}
			if text := strings.Join(got, "; "); tc.want == "" && text != "" || !strings.HasPrefix(text, tc.want) || len(got) > 1 {
				t.Errorf("got %q, want %q", text, tc.want)
			}
		})
	}
}

func TestNamesOfACapture(t *testing.T) {
	c := capture.Config{Interface: " eth0 ,eth1"}
	if got := c.Interfaces(); !slices.Equal(got, []string{"eth0", "eth1"}) || c.Label() != "eth0-eth1" || c.Source() != "capture:eth0-eth1" {
		t.Errorf("%q, %s, %s", got, c.Label(), c.Source())
	}
	c.Name = "lan"
	if c.Source() != "capture:lan" {
		t.Error(c.Source())
	}
}
