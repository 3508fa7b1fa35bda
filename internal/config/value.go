package config

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
)

// The value types below are written as text with a unit. Each refuses what it
// does not know exactly, so that nobody waits 60 nanoseconds or caps an upload
// at 10 bytes; a bare 0 needs no unit. Expected says what a type takes.

// Duration is a time span of 0 or more: "90s", "1h30m", "250ms", "1d12h". A day
// is 24 hours and stands first. Units: d, h, m, s, ms, us.
type Duration time.Duration

// Std returns d for the standard library.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// Expected describes a duration.
func (Duration) Expected() string { return `a time span such as "90s", "5m" or "1d"` }

func (Duration) bareNumber() {}

// UnmarshalText parses a duration; its error holds nothing of the text.
func (d *Duration) UnmarshalText(text []byte) error {
	bad := errors.New("expected " + d.Expected())
	s := string(text)
	var total time.Duration
	if days, rest, ok := strings.Cut(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 32)
		if err != nil || n > uint64(math.MaxInt64/(24*time.Hour)) {
			return bad
		}
		total, s = time.Duration(n)*24*time.Hour, rest
		if s == "" {
			*d = Duration(total)
			return nil
		}
	}
	if strings.ContainsAny(s, "+-nµμ") {
		return bad
	}
	part, err := time.ParseDuration(s)
	if err != nil || total+part < total {
		return bad
	}
	*d = Duration(total + part)
	return nil
}

// String gives the shortest text that UnmarshalText takes back, as "90s" is
// "1m30s" and a day "1d".
func (d Duration) String() string {
	var b strings.Builder
	rest := time.Duration(d)
	if days := rest / (24 * time.Hour); days > 0 {
		b.WriteString(strconv.FormatInt(int64(days), 10) + "d")
		rest -= days * 24 * time.Hour
	}
	if rest > 0 || b.Len() == 0 {
		s := rest.String()
		if strings.HasSuffix(s, "m0s") {
			s = strings.TrimSuffix(s, "0s")
		}
		if strings.HasSuffix(s, "h0m") {
			s = strings.TrimSuffix(s, "0m")
		}
		b.WriteString(strings.Replace(s, "µs", "us", 1))
	}
	return b.String()
}

// MarshalText returns String.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// Size is a number of bytes, 0 or more: "512MiB" (2^20), "10MB" (10^6), "1500"
// or the bare number 1500. Units: B, kB, KiB, MB, MiB, GB, GiB, TB, TiB in any
// case; whole numbers only. "M" alone is refused, as it may mean either.
type Size int64

// Bytes returns the size in bytes.
func (s Size) Bytes() int64 { return int64(s) }

// Expected describes a size.
func (Size) Expected() string { return `a size such as "512MiB" or "10MB"` }

func (Size) bareNumber() {}

// unit is a word and the number of bytes, or of bits, that it stands for.
type unit struct {
	word  string
	count int64
}

// Sorted so that formatting takes the largest that divides.
var sizeUnits = []unit{
	{"TiB", 1 << 40},
	{"TB", 1e12},
	{"GiB", 1 << 30},
	{"GB", 1e9},
	{"MiB", 1 << 20},
	{"MB", 1e6},
	{"KiB", 1 << 10},
	{"kB", 1e3},
	{"B", 1},
}

// quantity parses "10 MB" by the given units. It reports false for anything
// but a whole number, a known unit and a result that fits.
func quantity(text string, units []unit, bare bool) (int64, bool) {
	digits := len(text) - len(strings.TrimLeft(text, "0123456789"))
	n, err := strconv.ParseInt(text[:digits], 10, 64)
	if err != nil {
		return 0, false
	}
	word := strings.TrimPrefix(text[digits:], " ")
	if word == "" {
		return n, bare || n == 0
	}
	for _, u := range units {
		if strings.EqualFold(word, u.word) {
			return n * u.count, n <= math.MaxInt64/u.count
		}
	}
	return 0, false
}

func written(n int64, units []unit) string {
	for _, u := range units {
		if n >= u.count && n%u.count == 0 {
			return strconv.FormatInt(n/u.count, 10) + u.word
		}
	}
	return "0"
}

// UnmarshalText parses a size; its error holds nothing of the text.
func (s *Size) UnmarshalText(text []byte) error {
	n, ok := quantity(string(text), sizeUnits, true)
	if !ok {
		return errors.New("expected " + s.Expected())
	}
	*s = Size(n)
	return nil
}

// String writes the size with the largest unit that divides it.
func (s Size) String() string { return written(int64(s), sizeUnits) }

// MarshalText returns String.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Rate is a number of bytes per second, 0 or more: "10MB/s", "4MiB/s", and in
// bits as networks are sold, "100Mbit/s". 0 alone needs no unit; every other
// rate does.
type Rate int64

// BytesPerSecond returns the rate in bytes per second.
func (r Rate) BytesPerSecond() int64 { return int64(r) }

// Expected describes a rate.
func (Rate) Expected() string { return `a rate such as "10MB/s" or "100Mbit/s"` }

func (Rate) bareNumber() {}

var bitUnits = []unit{
	{"Gbit", 1e9},
	{"Mbit", 1e6},
	{"kbit", 1e3},
}

// UnmarshalText parses a rate; its error holds nothing of the text.
func (r *Rate) UnmarshalText(text []byte) error {
	word, perSecond := strings.CutSuffix(string(text), "/s")
	if word == "0" {
		*r = 0
		return nil
	}
	// Sizes are written in any case, but "10Mb/s" means bits to many.
	n, ok := quantity(word, sizeUnits, false)
	ok = ok && !strings.HasSuffix(word, "b")
	if !ok {
		n, ok = quantity(word, bitUnits, false)
		n /= 8
	}
	if !ok || !perSecond {
		return errors.New("expected " + r.Expected())
	}
	*r = Rate(n)
	return nil
}

// String writes the rate in bytes, with the largest unit that divides it.
func (r Rate) String() string {
	if r == 0 {
		return "0"
	}
	return written(int64(r), sizeUnits) + "/s"
}

// MarshalText returns String.
func (r Rate) MarshalText() ([]byte, error) { return []byte(r.String()), nil }
