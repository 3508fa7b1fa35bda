// Package local is the way to a running agent from the same machine, for
// service/control: where it listens and who may come in. On Unix that is a
// socket whose file says who (0660); on Windows, where HTTP over a pipe is not to
// be had, a port on loopback whose users prove that they can read a file.
//
// It imports nothing of service, so that the configuration can hold its table.
package local

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"

	"capagent/internal/config"
)

// Config is the table [control].
type Config struct {
	Socket string `toml:"socket"` // Unix: absolute path of the socket; "": see Place. Ignored on Windows
	Group  string `toml:"group"`  // Unix: group, by name or number, that may use it besides the owner; "": the process's own
	Listen string `toml:"listen"` // Windows: loopback address; port 0 lets the system choose
}

// DefaultConfig returns the values that apply where a configuration is silent.
func DefaultConfig() Config { return Config{Listen: "127.0.0.1:0"} }

// Validate returns what is wrong with the values, each with its key.
func (c *Config) Validate() []*config.Error {
	var all []*config.Error
	check := func(key string, err error) {
		if err != nil {
			all = append(all, &config.Error{Key: "control." + key, Err: err})
		}
	}
	check("socket", checkSocket(c.Socket))
	if strings.ContainsAny(c.Group, ":\n\x00") {
		check("group", errors.New("expected the name or the number of one group"))
	}
	check("listen", checkListen(c.Listen))
	return all
}

func checkSocket(path string) error {
	switch {
	case path == "":
		return nil
	case !filepath.IsAbs(path):
		return errors.New("expected an absolute path")
	case len(path) > maxSocket:
		return fmt.Errorf("expected at most %d bytes: the system takes no longer path for a socket", maxSocket)
	case strings.HasSuffix(path, string(filepath.Separator)):
		return errors.New("expected the path of the socket itself, not of a directory")
	default:
		return nil
	}
}

func checkListen(address string) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil || !at.Addr().IsLoopback() {
		return errors.New(`expected a loopback address with a port, such as "127.0.0.1:0"`)
	}
	return nil
}
