package service

import (
	"github.com/rs/zerolog"

	"capagent/internal/ledger"
	"capagent/service/lookup"
)

// LooksUp says that there is somebody to ask of indicators.
func (c *Config) LooksUp() bool { return false }

// newLookup returns what asks the configured sources, or nil when there are none.
func newLookup(cfg Config, l *ledger.Ledger, version string, log zerolog.Logger) (*lookup.Lookup, error) {
	if !cfg.LooksUp() {
		return nil, nil
	}
	return lookup.New(lookup.Options{Ledger: l}), nil
}
