package retention

import (
	"errors"
	"time"

	"capagent/internal/config"
)

// Config is the table [retention]. It is about the agent's own files; what the
// agent was only shown is never deleted by it. 0 turns a limit off.
type Config struct {
	MaxSize config.Size     `toml:"max_size"` // of all the agent's own captures together
	MaxAge  config.Duration `toml:"max_age"`  // also of captures that nobody released
	MinFree config.Size     `toml:"min_free"` // of the file system that the spool is on

	Sightings     config.Duration `toml:"sightings"`      // how long it is known which capture held which indicator
	SightingsSize config.Size     `toml:"sightings_size"` // what knowing it may take
}

// DefaultConfig returns the values that apply where a configuration is silent:
// everything is kept until the disk is nearly full.
func DefaultConfig() Config {
	return Config{MinFree: 1 << 30, Sightings: config.Duration(365 * 24 * time.Hour), SightingsSize: 4 << 30}
}

// minSightings is room for some of the pieces in which sightings are pruned.
const minSightings = 256 << 20

// minAge keeps a slip of the pen from deleting what was only just uploaded.
const minAge = time.Minute

// Validate returns what is wrong with the values that are set, each with its key
// ("retention.max_age").
func (c *Config) Validate() []*config.Error {
	var all []*config.Error
	bad := func(key, text string) {
		all = append(all, &config.Error{Key: "retention." + key, Err: errors.New(text)})
	}
	if c.MaxSize < 0 {
		bad("max_size", "expected 0 or more")
	}
	if age := c.MaxAge.Std(); age != 0 && age < minAge {
		bad("max_age", "expected at least 1m, or 0 to keep captures of any age")
	}
	if c.MinFree < 0 {
		bad("min_free", "expected 0 or more")
	}
	if age := c.Sightings.Std(); age != 0 && age < minAge {
		bad("sightings", "expected at least 1m, or 0 to keep sightings of any age")
	}
	if c.SightingsSize != 0 && c.SightingsSize < minSightings {
		bad("sightings_size", "expected at least 256MiB, or 0 for no limit")
	}
	return all
}
