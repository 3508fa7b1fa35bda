package service

import (
	"fmt"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // for machines that have none

	"github.com/robfig/cron/v3"

	"capagent/internal/config"
)

// ScheduleConfig is one table [[schedule]]: when a live capture runs.
type ScheduleConfig struct {
	Name     string          `toml:"name"`
	Capture  string          `toml:"capture"`  // the name of a live capture
	Cron     string          `toml:"cron"`     // minute, hour, day of the month, month, day of the week
	Timezone string          `toml:"timezone"` // of cron: "UTC", "Local" or "Europe/Berlin"
	Duration config.Duration `toml:"duration"` // how long it runs at most, each time
}

// SetDefaults sets the values that apply where a table is silent.
func (c *ScheduleConfig) SetDefaults() { *c = ScheduleConfig{Timezone: "UTC"} }

// Bounds of a schedule's duration.
const (
	minScheduled = time.Minute
	maxScheduled = 7 * 24 * time.Hour
)

// parse returns when windows begin, or what is wrong and with which key.
func (c *ScheduleConfig) parse() (cron.Schedule, *config.Error) {
	wrong := func(key, format string, args ...any) (cron.Schedule, *config.Error) {
		return nil, &config.Error{Key: key, Err: fmt.Errorf(format, args...)}
	}
	const fields = `expected five fields, such as "0 9 * * 1-5"`
	if strings.Contains(c.Cron, "TZ=") || strings.HasPrefix(c.Cron, "@every") { // that it would take, too
		return wrong("cron", fields+"; the time zone is the key timezone")
	}
	zone, err := time.LoadLocation(c.Timezone)
	if err != nil || c.Timezone == "" {
		return wrong("timezone", `expected "UTC", "Local" or a name such as "Europe/Berlin"`)
	}
	parsed, err := cron.ParseStandard(c.Cron)
	if err != nil {
		return wrong("cron", fields+": %w", err)
	}
	if spec, ok := parsed.(*cron.SpecSchedule); ok {
		spec.Location = zone
	}
	if parsed.Next(time.Now()).IsZero() {
		return wrong("cron", "there is no such day")
	}
	return parsed, nil
}

// Scheduled says whether a live capture is to run at a time, and when that changes
// next: now or later, and zero when never. One that no schedule names always runs.
func (c *Config) Scheduled(capture string, now time.Time) (runs bool, next time.Time) {
	named := false
	for i := range c.Schedule {
		s := &c.Schedule[i]
		if s.Capture != capture {
			continue
		}
		named = true
		parsed, err := s.parse()
		if err != nil {
			continue // what is wrong was said when the configuration was read
		}
		on, change := window(parsed, s.Duration.Std(), now)
		switch {
		case on && (!runs || change.After(next)):
			runs, next = true, change
		case !on && !runs && (next.IsZero() || change.Before(next)):
			next = change
		}
	}
	if !named {
		return true, time.Time{}
	}
	return runs, next
}

// window says whether now is in one of the windows, and when that changes next.
// Windows that overlap are one.
func window(begins cron.Schedule, length time.Duration, now time.Time) (in bool, change time.Time) {
	start := begins.Next(now.Add(-length))
	if start.After(now) {
		return false, start
	}
	end := start.Add(length)
	for range 10_000 { // that often a minute fits into a week
		if start = begins.Next(start); start.IsZero() || start.After(end) {
			break
		}
		if end = start.Add(length); end.Sub(now) > maxScheduled {
			break // it is looked at again then
		}
	}
	return true, end
}

// checkSchedules checks the [[schedule]] tables.
func (c *Config) checkSchedules() []error {
	var errs []error
	var names []string
	for i := range c.Schedule {
		s, table := &c.Schedule[i], fmt.Sprintf("schedule[%d].", i)
		bad := func(key, format string, args ...any) {
			errs = append(errs, c.Loaded.Errorf(table+key, format, args...))
		}
		if s.Name == "" || slices.Contains(names, s.Name) {
			bad("name", "expected a name of its own")
		}
		names = append(names, s.Name)
		if !slices.ContainsFunc(c.Capture, func(one CaptureConfig) bool { return one.Label() == s.Capture }) {
			bad("capture", "expected the name of a [[capture]]")
		}
		if _, err := s.parse(); err != nil {
			bad(err.Key, "%w", err.Err)
		}
		if d := s.Duration.Std(); d < minScheduled || d > maxScheduled {
			bad("duration", "expected from %s to %s", config.Duration(minScheduled), config.Duration(maxScheduled))
		}
	}
	return errs
}
