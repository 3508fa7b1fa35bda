package service

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/rs/zerolog"

	"capagent/enrich"
	"capagent/enrich/choose"
	"capagent/enrich/indicator"
	"capagent/enrich/lists"
	"capagent/enrich/threatconnect"
	"capagent/enrich/verdict"
	"capagent/internal/config"
	"capagent/internal/ledger"
	"capagent/service/lookup"
)

// ListConfig is one table [[list]]: a file of what is known to be bad.
type ListConfig struct {
	Name       string  `toml:"name"`
	File       string  `toml:"file"`
	Owner      string  `toml:"owner"`
	Rating     float64 `toml:"rating"`
	Confidence int     `toml:"confidence"`
	Subdomains bool    `toml:"subdomains"`
}

// SetDefaults sets the values that apply where a table is silent.
func (c *ListConfig) SetDefaults() {
	c.Rating, c.Confidence = lists.DefaultRating, lists.DefaultConfidence
}

func (c *ListConfig) config() lists.Config {
	return lists.Config{Name: c.Name, File: c.File, Owner: c.Owner, Rating: &c.Rating, Confidence: &c.Confidence, Subdomains: c.Subdomains}
}

// HuntConfig is the table [hunt].
type HuntConfig struct {
	Every config.Duration `toml:"every"` // how often the agent hunts; 0: never
}

// minHunt is the shortest time between two hunts: each reads the whole store.
const minHunt = time.Hour

// LooksUp says that there is somebody to ask of indicators.
func (c *Config) LooksUp() bool { return c.ThreatConnect.URL != "" || len(c.List) > 0 }

// checkSources checks the tables of those that are asked.
func (c *Config) checkSources() []error {
	errs := c.place("", c.ThreatConnect.Validate())
	if c.ThreatConnect.URL != "" {
		errs = append(errs, c.place("", c.ThreatConnect.Missing())...)
	}
	names := map[string]bool{threatconnect.Name: true}
	for i, l := range c.List {
		table := fmt.Sprintf("list[%d].", i)
		if err := l.config().Check(); err != nil {
			errs = append(errs, c.Loaded.Errorf(table+"name", "%w", err))
		} else if names[l.Name] {
			errs = append(errs, c.Loaded.Errorf(table+"name", "an earlier source has this name"))
		}
		names[l.Name] = true
	}
	if every := c.Hunt.Every.Std(); every != 0 && (every < minHunt || !c.LooksUp()) {
		errs = append(errs, c.Loaded.Errorf("hunt.every", "expected at least 1h, and a [threatconnect] or a [[list]]; 0 is never"))
	}
	return errs
}

// NewLookup returns what asks the configured sources, or nil when there are none.
func NewLookup(cfg Config, l *ledger.Ledger, version string, log zerolog.Logger) (*lookup.Lookup, error) {
	look, _, err := sources(cfg, l, version, log)
	return look, err
}

// sources are those that are asked, and the one that is told of what was found.
func sources(cfg Config, l *ledger.Ledger, version string, log zerolog.Logger) (*lookup.Lookup, Reporter, error) {
	if !cfg.LooksUp() {
		return nil, nil, nil
	}
	var reports Reporter
	tc := cfg.ThreatConnect
	var remotes []lookup.Remote
	if tc.URL != "" {
		tc.Connecting = cfg.CloudShark.Connecting
		client, err := threatconnect.New(tc, version, log)
		if err != nil {
			return nil, nil, err
		}
		if tc.ReportSightings {
			reports = client
		}
		remotes = append(remotes, lookup.Remote{Source: client, TTL: tc.TTL.Std(), Negative: tc.NegativeTTL.Std()})
	}
	var local []lookup.Source
	for _, c := range cfg.List {
		list, err := lists.New(c.config(), log)
		if err != nil {
			return nil, nil, err
		}
		local = append(local, list)
	}
	chooser, err := choose.New(cfg.choice())
	if err != nil {
		return nil, nil, err
	}
	return lookup.New(lookup.Options{
		Ledger: l, Lists: local, Remotes: remotes, Threshold: tc.Threshold(),
		Choose: func(list []indicator.Indicator) []verdict.Query {
			return chooser.Choose(list, tc.MaxIndicators, nil).Queries
		},
	}), reports, nil
}

// choice is what is not looked up. What an exclude names as a path is a file.
func (c *Config) choice() choose.Config {
	tc := c.ThreatConnect
	out := choose.Config{Special: enrich.Special, Own: c.Inspect.Prefixes(), TopFiles: tc.TopSites, TopN: tc.TopN}
	for _, e := range tc.Exclude {
		if filepath.IsAbs(e) {
			out.ExcludeFiles = append(out.ExcludeFiles, e)
		} else {
			out.Exclude = append(out.Exclude, e)
		}
	}
	return out
}
