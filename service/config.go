package service

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/rs/zerolog"

	"capagent/capture"
	"capagent/capture/watch"
	"capagent/enrich/cado"
	"capagent/enrich/cado/bucket"
	"capagent/enrich/cloudshare"
	"capagent/enrich/cloudtrax"
	"capagent/enrich/threatconnect"
	"capagent/internal/config"
	"capagent/internal/logs"
	"capagent/rotate"
	"capagent/service/control/local"
	"capagent/service/metrics/observe"
	"capagent/service/retention"
	"capagent/upload"
)

// Config is agent.toml as a whole. Each part of the agent owns its table.
type Config struct {
	Agent      AgentConfig     `toml:"agent"`
	Log        LogConfig       `toml:"log"`
	CloudShark upload.Config   `toml:"cloudshark"`
	Capture    []CaptureConfig `toml:"capture"`
	Watch      []watch.Config  `toml:"watch"`
	Rotate     rotate.Config   `toml:"rotate"`
	Inspect    InspectConfig   `toml:"inspect"`
	Policy     PolicyConfig    `toml:"policy"`

	ThreatConnect threatconnect.Config `toml:"threatconnect"`
	List          []ListConfig         `toml:"list"`
	Hunt          HuntConfig           `toml:"hunt"`
	Cado          cado.Config          `toml:"cado"`
	CloudTrax     cloudtrax.Config     `toml:"cloudtrax"`
	CloudShare    cloudshare.Config    `toml:"cloudshare"`

	Trigger   []TriggerConfig  `toml:"trigger"`
	Schedule  []ScheduleConfig `toml:"schedule"`
	Retention retention.Config `toml:"retention"`
	Control   local.Config     `toml:"control"`
	Metrics   observe.Config   `toml:"metrics"`

	// Loaded tells where each value came from. It is nil in a Config that was
	// not made by LoadConfig.
	Loaded *config.Loaded `toml:"-"`
}

// CaptureConfig is one table [[capture]]. Keys of its rotate that are not set
// are those of [rotate].
type CaptureConfig struct {
	capture.Config
	Rotate rotate.Config `toml:"rotate"`
}

// SetDefaults sets the values that apply where a table is silent.
func (c *CaptureConfig) SetDefaults() {
	c.Config.SetDefaults()
	c.Rotate.SetDefaults()
}

// AgentConfig is the table [agent].
type AgentConfig struct {
	Name     string `toml:"name"`
	StateDir string `toml:"state_dir"`
	Confine  bool   `toml:"confine"` // the running agent gives up what it does not need, where the system lets it
}

// LogConfig is the table [log].
type LogConfig struct {
	Level  string `toml:"level"`
	Format string `toml:"format"` // one of logs.Formats
}

// DefaultConfig returns the values that apply where the configuration is silent.
func DefaultConfig() Config {
	c := Config{
		Agent: AgentConfig{Confine: true},
		Log:   LogConfig{Level: "info", Format: "auto"}, CloudShark: upload.DefaultConfig(), Inspect: defaultInspect(), Policy: defaultPolicy(),
		ThreatConnect: threatconnect.DefaultConfig(), Cado: cado.DefaultConfig(), CloudTrax: cloudtrax.DefaultConfig(), CloudShare: cloudshare.DefaultConfig(),
		Retention: retention.DefaultConfig(), Control: local.DefaultConfig(), Metrics: observe.DefaultConfig(),
	}
	c.Rotate.SetDefaults()
	return c
}

// LoadConfig reads and checks the configuration. stateDir is where the state
// belongs when nothing says otherwise; secrets are fetched on demand only, since
// who looks at the ledger need not be able to read them. The error is a config.Errors with
// everything that is wrong; the Config then holds what was right.
func LoadConfig(ctx context.Context, opts config.Options, stateDir string, secrets bool) (Config, error) {
	cfg := DefaultConfig()
	loaded, err := config.Load(opts, &cfg)
	cfg.Loaded = loaded
	if loaded == nil {
		return cfg, err
	}
	errs := []error{err}
	if secrets {
		errs = append(errs, loaded.ResolveSecrets(ctx))
	}
	errs = append(errs,
		loaded.OneOf("log.level", cfg.Log.Level, "trace", "debug", "info", "warn", "error"),
		loaded.OneOf("log.format", cfg.Log.Format, logs.Formats...))
	errs = append(errs, cfg.place("", cfg.CloudShark.Validate())...)
	errs = append(errs, cfg.place("", cfg.Inspect.Validate())...)
	if secrets || cfg.ThreatConnect.URL == "" {
		errs = append(errs, cfg.checkSources()...)
	}
	errs = append(errs, cfg.checkPlatforms(secrets)...)
	errs = append(errs, cfg.place("", cfg.Retention.Validate())...)
	errs = append(errs, cfg.place("", cfg.Control.Validate())...)
	errs = append(errs, cfg.place("", cfg.Metrics.Validate())...)
	if cfg.Agent.Name == "" {
		cfg.Agent.Name = hostName()
	}
	if cfg.Agent.StateDir == "" {
		cfg.Agent.StateDir = stateDir
	}
	if cfg.Agent.StateDir, err = filepath.Abs(cfg.Agent.StateDir); err != nil {
		errs = append(errs, loaded.Errorf("agent.state_dir", "expected a directory: %w", err))
	}
	errs = append(errs, cfg.checkWatches()...)
	errs = append(errs, cfg.checkCaptures()...)
	errs = append(errs, cfg.checkPolicy()...)
	errs = append(errs, cfg.checkSchedules()...)
	return cfg, config.Join(errs...)
}

// checkPlatforms checks the tables of Cado, CloudTrax and CloudShare: what is set, and,
// where one is in use and secrets are read, what is missing.
func (c *Config) checkPlatforms(secrets bool) (errs []error) {
	for _, p := range []struct {
		used    bool
		invalid []*config.Error
		missing func() []*config.Error
	}{
		{c.Cado.URL != "", c.Cado.Validate(), c.Cado.Missing},
		{c.CloudTrax.Key != "", c.CloudTrax.Validate(), c.CloudTrax.Missing},
		{c.CloudShare.APIID != "", c.CloudShare.Validate(), c.CloudShare.Missing},
	} {
		if p.used && !secrets {
			continue // references are not resolved
		}
		errs = append(errs, c.place("", p.invalid)...)
		if p.used && len(p.invalid) == 0 {
			errs = append(errs, c.place("", p.missing())...)
		}
	}
	return errs
}

// CanUpload returns an error for each key without which nothing can be sent.
func (c *Config) CanUpload() error { return config.Join(c.place("", c.CloudShark.Missing())...) }

// checkWatches checks each folder, and that a file belongs to one only.
func (c *Config) checkWatches() []error {
	var errs []error
	for i := range c.Watch {
		w, table := &c.Watch[i], fmt.Sprintf("watch[%d].", i)
		errs = append(errs, c.place(table, w.Validate())...)
		if abs, err := filepath.Abs(w.Path); w.Path != "" && err == nil {
			w.Path = abs
		}
		for k := range i {
			if covers(w, c.Watch[k].Path) || covers(&c.Watch[k], w.Path) {
				errs = append(errs, c.Loaded.Errorf(table+"path", "it and an earlier folder lie in one another; watch the outer one"))
			}
		}
		if covers(w, c.StateDir()) {
			errs = append(errs, c.Loaded.Errorf(table+"path", "the agent's own state directory lies in it; choose another folder or another agent.state_dir"))
		}
	}
	return errs
}

// checkCaptures fills each capture's rotate in from [rotate] and checks all of them.
func (c *Config) checkCaptures() []error {
	errs := c.place("rotate.", c.Rotate.Validate())
	for i := range c.Capture {
		one, table := &c.Capture[i], fmt.Sprintf("capture[%d].", i)
		errs = append(errs, c.place(table, one.Validate())...)
		for k := range i {
			if label := one.Label(); label != "" && strings.EqualFold(label, c.Capture[k].Label()) {
				errs = append(errs, c.Loaded.Errorf(table+"name", "an earlier capture has this name (without one it is the interface's); give each its own"))
			}
		}
		own := false
		inherit(&own, c.Loaded, table+"rotate.packets", &one.Rotate.Packets, c.Rotate.Packets)
		inherit(&own, c.Loaded, table+"rotate.size", &one.Rotate.Size, c.Rotate.Size)
		inherit(&own, c.Loaded, table+"rotate.interval", &one.Rotate.Interval, c.Rotate.Interval)
		inherit(&own, c.Loaded, table+"rotate.aligned", &one.Rotate.Aligned, c.Rotate.Aligned)
		inherit(&own, c.Loaded, table+"rotate.format", &one.Rotate.Format, c.Rotate.Format)
		if own { // what is wrong in [rotate] is said there
			errs = append(errs, c.place(table+"rotate.", one.Rotate.Validate())...)
		}
	}
	return errs
}

// inherit sets to to from unless key was set, which it notes in own.
func inherit[T any](own *bool, l *config.Loaded, key string, to *T, from T) {
	if l.Origin(key).Layer == config.FromDefault {
		*to = from
		return
	}
	*own = true
}

// covers says that w sees what lies directly in dir.
func covers(w *watch.Config, dir string) bool {
	rel, err := filepath.Rel(w.Path, dir)
	return err == nil && w.Path != "" && dir != "" && filepath.IsLocal(rel) && (w.Recursive || rel == ".")
}

// place gives errors that know their key, below table, the place of that key.
func (c *Config) place(table string, errs []*config.Error) []error {
	out := make([]error, len(errs))
	for i, e := range errs {
		out[i] = c.Loaded.Errorf(table+e.Key, "%w", e.Err)
	}
	return out
}

// StateDir is where the ledger and the spool are.
func (c *Config) StateDir() string { return c.Agent.StateDir }

// Program names what a program is started for while the agent runs, "" where there is
// nothing.
func (c *Config) Program(ctx context.Context) string {
	if c.Loaded != nil {
		if key := c.Loaded.Command(); key != "" {
			return key
		}
	}
	if c.Cado.Chain() && bucket.StartsProgram(ctx) {
		return "credential_process of the AWS configuration"
	}
	return ""
}

// LedgerPath is the ledger's file.
func (c *Config) LedgerPath() string { return filepath.Join(c.StateDir(), "ledger.db") }

// SpoolDir is where the agent's own captures lie.
func (c *Config) SpoolDir() string { return filepath.Join(c.StateDir(), "spool") }

// Destination is the canonical base URL of the CloudShark instance, "" when none
// is configured.
func (c *Config) Destination() string { return c.CloudShark.Destination() }

// LogLevel returns the configured level; ok is false when nobody asked for one.
func (c *Config) LogLevel() (level zerolog.Level, ok bool) {
	level, err := zerolog.ParseLevel(c.Log.Level)
	return level, err == nil && c.Loaded != nil && c.Loaded.Origin("log.level").Layer != config.FromDefault
}

func hostName() string {
	name, err := os.Hostname()
	if err != nil || name == "" {
		return "unnamed"
	}
	return name
}
