package observe_test

import (
	"path/filepath"
	"testing"
	"time"

	"capagent/internal/config"
	"capagent/service/metrics/observe"
)

func TestConfig(t *testing.T) {
	file := filepath.Join(t.TempDir(), "capagent.prom") // absolute on every system
	for _, tc := range []struct {
		change func(*observe.Config)
		key    string // that is wrong
	}{
		{func(*observe.Config) {}, ""},
		{func(c *observe.Config) { c.Listen = "127.0.0.1:9464" }, ""},
		{func(c *observe.Config) { c.Listen = "127.9.9.9:0" }, ""},
		{func(c *observe.Config) { c.Listen = "[::1]:9464" }, ""},
		{func(c *observe.Config) { c.Listen = "[::ffff:127.0.0.1]:9464" }, ""},
		{func(c *observe.Config) { c.Listen = ":9464" }, "metrics.listen"},
		{func(c *observe.Config) { c.Listen = "0.0.0.0:9464" }, "metrics.listen"},
		{func(c *observe.Config) { c.Listen = "[::]:9464" }, "metrics.listen"},
		{func(c *observe.Config) { c.Listen = "192.0.2.1:9464" }, "metrics.listen"},
		{func(c *observe.Config) { c.Listen, c.AllowRemote = "192.0.2.1:9464", true }, ""},
		{func(c *observe.Config) { c.Listen, c.AllowRemote = ":9464", true }, ""},
		{func(c *observe.Config) { c.Listen, c.AllowRemote = "sensor.example:9464", true }, "metrics.listen"},
		{func(c *observe.Config) { c.Listen = "localhost:9464" }, "metrics.listen"},
		{func(c *observe.Config) { c.Listen = "127.0.0.1" }, "metrics.listen"},
		{func(c *observe.Config) { c.Listen = "127.0.0.1:http" }, "metrics.listen"},
		{func(c *observe.Config) { c.Listen = "127.0.0.1:70000" }, "metrics.listen"},
		{func(c *observe.Config) { c.Listen = "9464" }, "metrics.listen"},
		{func(c *observe.Config) { c.Textfile = file }, ""},
		{func(c *observe.Config) { c.Textfile = "capagent.prom" }, "metrics.textfile"},
		{func(c *observe.Config) { c.Textfile = file + ".txt" }, "metrics.textfile"},
		{func(c *observe.Config) { c.TextfileEvery = config.Duration(time.Second) }, ""},
		{func(c *observe.Config) { c.TextfileEvery = 0 }, "metrics.textfile_every"},
	} {
		c := observe.DefaultConfig()
		tc.change(&c)
		all := c.Validate()
		if tc.key == "" && len(all) > 0 || tc.key != "" && (len(all) != 1 || all[0].Key != tc.key) {
			t.Errorf("%+v: %v", c, all)
		}
	}
}
