// Package observe is what the configuration and the parts of the agent need of
// service/metrics: the table [metrics], and the Observer that parts tell what they do.
// It imports nothing of service, so that all of service can use it.
package observe

import (
	"errors"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"time"

	"capagent/internal/config"
)

// Config is the table [metrics].
type Config struct {
	Listen        string          `toml:"listen"`         // address with a port, such as 127.0.0.1:9464; "": no listener
	AllowRemote   bool            `toml:"allow_remote"`   // listen where other machines can come in, too
	Textfile      string          `toml:"textfile"`       // a .prom file for node_exporter's textfile collector; "": none
	TextfileEvery config.Duration `toml:"textfile_every"` // how often it is written
}

// DefaultConfig returns the values that apply where a configuration is silent:
// nobody is told anything.
func DefaultConfig() Config { return Config{TextfileEvery: config.Duration(30 * time.Second)} }

// leastEvery keeps the file from being the machine's main work.
const leastEvery = time.Second

// Validate returns what is wrong with the values, each with its key ("metrics.listen").
func (c *Config) Validate() []*config.Error {
	var all []*config.Error
	check := func(key string, err error) {
		if err != nil {
			all = append(all, &config.Error{Key: "metrics." + key, Err: err})
		}
	}
	check("listen", c.checkListen())
	if c.Textfile != "" {
		switch {
		case !filepath.IsAbs(c.Textfile):
			check("textfile", errors.New("expected an absolute path"))
		case filepath.Ext(c.Textfile) != ".prom":
			check("textfile", errors.New("expected a name that ends in .prom: the collector reads no other"))
		}
	}
	if c.TextfileEvery.Std() < leastEvery {
		check("textfile_every", errors.New("expected at least 1s"))
	}
	return all
}

func (c *Config) checkListen() error {
	if c.Listen == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return errListen
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return errListen
	}
	if _, err := netip.ParseAddr(host); host != "" && err != nil {
		return errListen
	}
	if !c.Loopback() && !c.AllowRemote {
		return errors.New("other machines could come in there, without a password: expected a loopback address, or allow_remote = true as well")
	}
	return nil
}

var errListen = errors.New(`expected an address with a port, such as "127.0.0.1:9464"`)

// Loopback says that only this machine can reach the listener.
func (c *Config) Loopback() bool {
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return false
	}
	at, err := netip.ParseAddr(host)
	return err == nil && at.Unmap().IsLoopback()
}
