package rotate

import (
	"errors"
	"fmt"
	"time"

	"capagent/internal/config"
	"capagent/internal/pcapio"
)

// Config is the table [rotate]: when a file ends and the next one begins,
// whichever limit comes first. 0 turns a limit off.
type Config struct {
	Packets  int             `toml:"packets"`  // of one file
	Size     config.Size     `toml:"size"`     // of one file
	Interval config.Duration `toml:"interval"` // from a file's first packet on
	Aligned  bool            `toml:"aligned"`  // intervals begin with the clock's, in UTC
	Format   string          `toml:"format"`   // "pcapng" or "pcap"
}

// DefaultPackets is the largest session that CloudShark opens otherwise than as a
// preview.
const DefaultPackets = 100_000

const (
	minSize     = 1 << 20 // what a packet, its interfaces and their counts need, with room to spare
	minInterval = time.Second
	day         = 24 * time.Hour
)

// SetDefaults sets the values that apply where a table is silent.
func (c *Config) SetDefaults() {
	*c = Config{Packets: DefaultPackets, Format: string(pcapio.Pcapng)}
}

// Validate returns what is wrong, each with its key ("packets").
func (c *Config) Validate() []*config.Error {
	var all []*config.Error
	bad := func(key, format string, args ...any) {
		all = append(all, &config.Error{Key: key, Err: fmt.Errorf(format, args...)})
	}
	interval := c.Interval.Std()
	switch {
	case c.Packets < 0:
		bad("packets", "expected 0 or more")
	case c.Packets == 0 && c.Size == 0 && interval == 0:
		all = append(all, &config.Error{Key: "packets", Err: errors.New("expected a limit here, in size or in interval: without any, a file never ends")})
	}
	if c.Size != 0 && c.Size < minSize {
		bad("size", "expected at least %s, or 0 for any size", config.Size(minSize))
	}
	switch {
	case interval != 0 && interval < minInterval:
		bad("interval", "expected at least %s, or 0 for no limit", minInterval)
	case c.Aligned && interval == 0:
		bad("aligned", "expected interval beside it")
	case c.Aligned && day%interval != 0:
		bad("interval", "expected a part of a day such as \"5m\" or \"1h\", since aligned is set")
	}
	if c.Format != string(pcapio.Pcapng) && c.Format != string(pcapio.Pcap) {
		bad("format", "expected %q or %q", pcapio.Pcapng, pcapio.Pcap)
	}
	return all
}
