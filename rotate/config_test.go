package rotate_test

import (
	"slices"
	"testing"
	"time"

	"capagent/internal/config"
	"capagent/rotate"
)

func TestConfig(t *testing.T) {
	var c rotate.Config
	c.SetDefaults()
	if errs := c.Validate(); len(errs) > 0 || c.Packets != 100_000 || c.Format != "pcapng" {
		t.Errorf("%+v: %v", c, errs)
	}
	for _, tc := range []struct {
		set  func(*rotate.Config)
		keys []string
	}{
		{func(c *rotate.Config) { c.Packets = -1 }, []string{"packets"}},
		{func(c *rotate.Config) { c.Packets = 0 }, []string{"packets"}},
		{func(c *rotate.Config) { c.Packets, c.Size = 0, 1<<20 }, nil},
		{func(c *rotate.Config) { c.Packets, c.Interval = 0, config.Duration(time.Second) }, nil},
		{func(c *rotate.Config) { c.Size = 1<<20 - 1 }, []string{"size"}},
		{func(c *rotate.Config) { c.Interval = config.Duration(time.Millisecond) }, []string{"interval"}},
		{func(c *rotate.Config) { c.Aligned = true }, []string{"aligned"}},
		{func(c *rotate.Config) { c.Aligned, c.Interval = true, config.Duration(7*time.Minute) }, []string{"interval"}},
		{func(c *rotate.Config) { c.Aligned, c.Interval = true, config.Duration(5*time.Minute) }, nil},
		{func(c *rotate.Config) { c.Aligned, c.Interval = true, config.Duration(24*time.Hour) }, nil},
		{func(c *rotate.Config) { c.Aligned, c.Interval = true, config.Duration(48*time.Hour) }, []string{"interval"}},
		{func(c *rotate.Config) { c.Format = "snoop" }, []string{"format"}},
		{func(c *rotate.Config) { c.Format, c.Size = "pcap", -1 }, []string{"size"}},
	} {
		c.SetDefaults()
		tc.set(&c)
		var keys []string
		for _, e := range c.Validate() {
			keys = append(keys, e.Key)
		}
		if !slices.Equal(keys, tc.keys) {
			t.Errorf("%+v: %v is wrong, not %v", c, keys, tc.keys)
		}
	}
}
