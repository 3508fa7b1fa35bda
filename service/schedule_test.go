package service

import (
	"testing"
	"time"

	"capagent/internal/config"
)

func at(t *testing.T, text string) time.Time {
	t.Helper()
	v, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// Windows are those of the schedule's time zone, also where its clocks are set.
func TestSchedules(t *testing.T) {
	cfg := Config{Schedule: []ScheduleConfig{
		{Capture: "office", Cron: "0 8 * * 1-5", Timezone: "Europe/Berlin", Duration: config.Duration(10 * time.Hour)},
		{Capture: "office", Cron: "30 17 * * 5", Timezone: "Europe/Berlin", Duration: config.Duration(2 * time.Hour)},
		{Capture: "night", Cron: "30 2 * * *", Timezone: "Europe/Berlin", Duration: config.Duration(time.Hour)},
		{Capture: "always", Cron: "0 * * * *", Timezone: "UTC", Duration: config.Duration(2 * time.Hour)},
	}}
	for _, tc := range []struct {
		capture, now string
		runs         bool
		next         string
	}{
		{"other", "2026-07-01T00:00:00Z", true, ""},
		{"office", "2026-07-01T05:59:59Z", false, "2026-07-01T06:00:00Z"},
		{"office", "2026-07-01T06:00:00Z", true, "2026-07-01T16:00:00Z"},
		{"office", "2026-07-01T16:00:00Z", false, "2026-07-02T06:00:00Z"},
		{"office", "2026-07-03T15:45:00Z", true, "2026-07-03T17:30:00Z"}, // two windows overlap
		{"office", "2026-07-03T17:30:00Z", false, "2026-07-06T06:00:00Z"},
		{"office", "2026-01-05T06:30:00Z", false, "2026-01-05T07:00:00Z"}, // winter time
		{"night", "2026-03-28T01:00:00Z", false, "2026-03-28T01:30:00Z"},
		{"night", "2026-03-29T00:59:00Z", false, "2026-03-30T00:30:00Z"}, // 02:30 does not exist that night
		{"night", "2026-10-25T00:10:00Z", false, "2026-10-25T00:30:00Z"}, // it is there twice
	} {
		runs, next := cfg.Scheduled(tc.capture, at(t, tc.now))
		want := time.Time{}
		if tc.next != "" {
			want = at(t, tc.next)
		}
		if runs != tc.runs || !next.Equal(want) {
			t.Errorf("%s at %s: %t until %s, want %t until %s", tc.capture, tc.now, runs, next.UTC(), tc.runs, want)
		}
	}
	if runs, next := cfg.Scheduled("always", at(t, "2026-07-01T06:00:00Z")); !runs || next.Sub(at(t, "2026-07-01T06:00:00Z")) < 24*time.Hour {
		t.Errorf("%t, %s", runs, next)
	}
}
