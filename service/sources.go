package service

import (
	"github.com/rs/zerolog"

	"capagent/enrich"
	"capagent/enrich/indicator"
	"capagent/enrich/threatconnect"
	"capagent/enrich/verdict"
	"capagent/internal/ledger"
	"capagent/service/lookup"
)

// LooksUp says that there is somebody to ask of indicators.
func (c *Config) LooksUp() bool { return c.ThreatConnect.URL != "" }

// checkSources checks the tables of those that are asked.
func (c *Config) checkSources() []error {
	errs := c.place("", c.ThreatConnect.Validate())
	if c.ThreatConnect.URL != "" {
		errs = append(errs, c.place("", c.ThreatConnect.Missing())...)
	}
	return errs
}

// NewLookup returns what asks the configured sources, or nil when there are none.
func NewLookup(cfg Config, l *ledger.Ledger, version string, log zerolog.Logger) (*lookup.Lookup, error) {
	if !cfg.LooksUp() {
		return nil, nil
	}
	tc := cfg.ThreatConnect
	tc.Connecting = cfg.CloudShark.Connecting
	client, err := threatconnect.New(tc, version, log)
	if err != nil {
		return nil, err
	}
	own := cfg.Inspect.Prefixes()
	return lookup.New(lookup.Options{
		Ledger:    l,
		Remotes:   []lookup.Remote{{Source: client, TTL: tc.TTL.Std(), Negative: tc.NegativeTTL.Std()}},
		Threshold: tc.Threshold(),
		Choose: func(list []indicator.Indicator) []verdict.Query {
			var queries []verdict.Query
			for _, i := range enrich.Interesting(list, own) {
				if i.Type != indicator.LocalHost && len(queries) < tc.MaxIndicators {
					queries = append(queries, verdict.Query{Type: i.Type, Value: i.Value})
				}
			}
			return queries
		},
	}), nil
}
