package service

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"capagent/internal/config"
	"capagent/internal/ledger"
)

// PolicyConfig is the table [policy]: which captures leave the machine, of those
// that `capagent run` finds or takes. What a person uploads or imports always does.
type PolicyConfig struct {
	Upload     string          `toml:"upload"`       // UploadAll, UploadFlagged or UploadTriggered
	Before     config.Duration `toml:"before"`       // of a trigger that does not say it
	After      config.Duration `toml:"after"`        // likewise
	MaxPerHour int             `toml:"max_per_hour"` // triggers; 0: no limit
	MaxDelay   config.Duration `toml:"max_delay"`    // for how long looking indicators up may hold a capture back
}

// The values of PolicyConfig.Upload.
const (
	UploadAll       = "all"
	UploadTriggered = "triggered"
	UploadFlagged   = "flagged"
)

// SourceTrigger is the source of captures that a trigger made.
const SourceTrigger = "trigger"

// SealedReason is why a capture is neither queued nor held yet.
const SealedReason = "its indicators are being looked up"

// FlaggedReason is why a capture is held by UploadFlagged.
const FlaggedReason = `policy.upload is "flagged": nothing was found in it that is known to be bad`

// HeldReason is why a capture is held by UploadTriggered.
const HeldReason = `policy.upload is "triggered": kept here until a trigger asks for its time`

func defaultPolicy() PolicyConfig {
	return PolicyConfig{Upload: UploadAll, Before: config.Duration(5 * time.Minute), After: config.Duration(time.Minute), MaxPerHour: 6, MaxDelay: config.Duration(30 * time.Second)}
}

// Held says that captures wait for a trigger.
func (p *PolicyConfig) Held() bool { return p.Upload == UploadTriggered }

// Keeps says that captures stay here unless something releases them.
func (p *PolicyConfig) Keeps() bool { return p.Held() || p.Upload == UploadFlagged }

// TriggerConfig is one table [[trigger]]: a log file, and lines of it that ask for
// a window.
type TriggerConfig struct {
	Name     string          `toml:"name"`
	File     string          `toml:"file"`
	Pattern  string          `toml:"pattern"`  // RE2
	Capture  string          `toml:"capture"`  // of which; "": all
	Before   config.Duration `toml:"before"`   // 0: that of [policy]
	After    config.Duration `toml:"after"`    // likewise
	Reason   string          `toml:"reason"`   // {line} is the line, {name} the trigger
	Cooldown config.Duration `toml:"cooldown"` // between two of them
}

// SetDefaults sets the values that apply where a table is silent.
func (c *TriggerConfig) SetDefaults() {
	*c = TriggerConfig{Reason: "{name}: {line}", Cooldown: config.Duration(5 * time.Minute)}
}

// Bounds of a window.
const (
	MaxBefore = 7 * 24 * time.Hour
	MaxAfter  = 24 * time.Hour
	// MaxReason bounds a trigger's reason, in bytes.
	MaxReason = 1000
)

// CheckWindow says what is wrong with a window.
func CheckWindow(before, after time.Duration) error {
	switch {
	case before < 0 || before > MaxBefore:
		return fmt.Errorf("before: expected %s at most", config.Duration(MaxBefore))
	case after < 0 || after > MaxAfter:
		return fmt.Errorf("after: expected %s at most", config.Duration(MaxAfter))
	case before+after == 0:
		return errors.New("before and after: expected a window of some time")
	}
	return nil
}

// checkPolicy checks [policy] and the [[trigger]] tables.
func (c *Config) checkPolicy() []error {
	var errs []error
	bad := func(key, format string, args ...any) { errs = append(errs, c.Loaded.Errorf(key, format, args...)) }
	if err := c.Loaded.OneOf("policy.upload", c.Policy.Upload, UploadAll, UploadFlagged, UploadTriggered); err != nil {
		errs = append(errs, err)
	} else if c.Policy.Upload == UploadFlagged && !c.LooksUp() {
		bad("policy.upload", `"flagged" needs a [threatconnect] or a [[list]]: nothing flags captures otherwise`)
	}
	if d := c.Policy.MaxDelay.Std(); d < 0 || d > time.Hour {
		bad("policy.max_delay", "expected 1h at most")
	}
	if err := CheckWindow(c.Policy.Before.Std(), c.Policy.After.Std()); err != nil {
		bad("policy.before", "with policy.after: %w", err)
	}
	if n := c.Policy.MaxPerHour; n < 0 || n > 1000 {
		bad("policy.max_per_hour", "expected a number from 1 to 1000, or 0 for no limit")
	}
	var names []string
	for i := range c.Trigger {
		t, table := &c.Trigger[i], fmt.Sprintf("trigger[%d].", i)
		if t.Name == "" || len(t.Name) > 64 || slices.Contains(names, t.Name) {
			bad(table+"name", "expected a name of its own, of 64 bytes at most")
		}
		names = append(names, t.Name)
		if !filepath.IsAbs(t.File) {
			bad(table+"file", "expected the absolute path of a log file")
		}
		if _, err := regexp.Compile(t.Pattern); err != nil {
			bad(table+"pattern", "expected a regular expression (RE2): %w", err)
		} else if t.Pattern == "" {
			bad(table+"pattern", "not set: a regular expression for a line")
		}
		if err := CheckWindow(t.Before.Std(), t.After.Std()); err != nil && t.Before+t.After != 0 {
			bad(table+"before", "with after: %w", err)
		}
		if len(t.Reason) > MaxReason {
			bad(table+"reason", "expected %d bytes at most", MaxReason)
		}
		if t.Capture != "" && !slices.ContainsFunc(c.Capture, func(one CaptureConfig) bool { return one.Label() == t.Capture }) {
			bad(table+"capture", "no [[capture]] has this name")
		}
	}
	if len(c.Trigger) > 0 && !c.Policy.Keeps() {
		bad("trigger[0].name", `a trigger needs policy.upload = "triggered": with %q everything is sent anyway`, c.Policy.Upload)
	}
	return errs
}

// Sort says of a capture that was found where its life begins; looked says that its
// indicators will be looked up.
func (p *PolicyConfig) Sort(state ledger.State, reason string, looked bool) (ledger.State, string) {
	switch {
	case state != ledger.Queued:
		return state, reason
	case p.Held():
		return ledger.Held, HeldReason
	case looked:
		return ledger.Sealed, SealedReason
	}
	return state, reason
}

// Decide says of a capture with so many findings where it goes.
func (p *PolicyConfig) Decide(findings int) (ledger.State, string) {
	if p.Upload == UploadFlagged && findings == 0 {
		return ledger.Held, FlaggedReason
	}
	return ledger.Queued, ""
}
