package config

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestDurations(t *testing.T) {
	good := map[string]time.Duration{
		"0": 0, "0s": 0, "90s": 90 * time.Second, "5m": 5 * time.Minute, "1h30m": 90 * time.Minute, "250ms": 250 * time.Millisecond,
		"1d": 24 * time.Hour, "1d12h": 36 * time.Hour, "30d": 720 * time.Hour, "1.5h": 90 * time.Minute,
	}
	for text, want := range good {
		var d Duration
		if err := d.UnmarshalText([]byte(text)); err != nil || d.Std() != want {
			t.Errorf("%q = %v, %v", text, d.Std(), err)
		}
	}
	for _, text := range []string{"", "90", "-5s", "+5s", "5 m", "1d2d", "d", "-1d", "1w", "9999999h99999999h", "106752d", "106751d24h", "1.5d", "5ns", "s"} {
		var d Duration
		if err := d.UnmarshalText([]byte(text)); err == nil || !strings.Contains(err.Error(), `"90s"`) {
			t.Errorf("%q = %v, %v", text, d.Std(), err)
		}
	}
}

func TestSizes(t *testing.T) {
	good := map[string]int64{
		"0": 0, "1500": 1500, "1B": 1, "512MiB": 512 << 20, "10MB": 10e6, "10mb": 10e6, "1 GiB": 1 << 30, "2KiB": 2048, "3kB": 3000, "1TiB": 1 << 40,
		"8388607TiB": 8388607 << 40,
	}
	for text, want := range good {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err != nil || s.Bytes() != want {
			t.Errorf("%q = %d, %v", text, s, err)
		}
	}
	for _, text := range []string{"", "10M", "1.5GiB", "-1", "MiB", "10 Mbit", "8388608TiB", "99999999999999999999", "1  MB", "0x10"} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err == nil || !strings.Contains(err.Error(), `"512MiB"`) {
			t.Errorf("%q = %d, %v", text, s, err)
		}
	}
}

func TestRates(t *testing.T) {
	good := map[string]int64{
		"0": 0, "0/s": 0, "10MB/s": 10e6, "4MiB/s": 4 << 20, "100Mbit/s": 12.5e6, "1Gbit/s": 125e6, "64kbit/s": 8000, "500B/s": 500,
	}
	for text, want := range good {
		var r Rate
		if err := r.UnmarshalText([]byte(text)); err != nil || r.BytesPerSecond() != want {
			t.Errorf("%q = %d, %v", text, r, err)
		}
	}
	for _, text := range []string{"", "10", "10/s", "10MB", "10Mb/s", "10Mbit", "10MB/m", "-1MB/s", "/s"} {
		var r Rate
		if err := r.UnmarshalText([]byte(text)); err == nil || !strings.Contains(err.Error(), `"10MB/s"`) {
			t.Errorf("%q = %d, %v", text, r, err)
		}
	}
}

func TestValuesAreWrittenAsTheyAreRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.OneOf(rapid.Int64Min(0), rapid.Map(rapid.Int64Range(0, 1<<30), func(n int64) int64 { return n << 20 })).Draw(t, "n")
		var s Size
		if err := s.UnmarshalText([]byte(Size(n).String())); err != nil || s != Size(n) {
			t.Errorf("size %d is written %s and read %d, %v", n, Size(n), s, err)
		}
		var r Rate
		if err := r.UnmarshalText([]byte(Rate(n).String())); err != nil || r != Rate(n) {
			t.Errorf("rate %d is written %s and read %d, %v", n, Rate(n), r, err)
		}
		whole := Duration(n / 1000 * 1000) // microseconds are the smallest unit
		var d Duration
		if err := d.UnmarshalText([]byte(whole.String())); err != nil || d != whole {
			t.Errorf("duration %d is written %s and read %d, %v", whole, whole, d, err)
		}
	})
	for d, want := range map[time.Duration]string{0: "0s", time.Minute: "1m", time.Hour: "1h", 24 * time.Hour: "1d", 90 * time.Second: "1m30s", 10 * time.Minute: "10m", 36 * time.Hour: "1d12h", 24*time.Hour + time.Second: "1d1s", 20 * time.Hour: "20h"} {
		if got := Duration(d).String(); got != want {
			t.Errorf("%v is written %s, want %s", d, got, want)
		}
	}
}
