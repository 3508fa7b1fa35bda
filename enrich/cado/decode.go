package cado

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// What is kept of a platform's texts, in bytes.
const (
	maxName = 300
	maxText = 500
)

// The types below take what platforms really send (contracts/cado.md 5.2, 5.3):
// none of them fails, what can't be understood is unset.

// text is a string; a number or truth value is its text. Ids are texts, too.
type text string

func (t *text) UnmarshalJSON(data []byte) error {
	var s string
	switch {
	case json.Unmarshal(data, &s) == nil:
		*t = text(s)
	case data[0] == '{', data[0] == '[':
		*t = ""
	default:
		*t = text(data)
	}
	return nil
}

// id is text that is an identifier: "" for none, and for the 0 that v2 sends
// while it knows none.
func (t text) id() string {
	s := line(string(t), 64)
	if s == "0" || strings.ContainsAny(s, " /?#%") {
		return ""
	}
	return s
}

// flag is a truth value, that may come as a string or a number.
type flag bool

func (f *flag) UnmarshalJSON(data []byte) error {
	switch strings.ToLower(strings.Trim(string(data), `" `)) {
	case "true", "1", "yes":
		*f = true
	default:
		*f = false
	}
	return nil
}

// number is a whole number, that may come as a string or with a fraction.
type number int64

func (n *number) UnmarshalJSON(data []byte) error {
	f, err := strconv.ParseFloat(strings.Trim(string(data), `" `), 64)
	if err != nil || math.IsNaN(f) || f < 0 || f > 1<<53 {
		f = 0
	}
	*n = number(f)
	return nil
}

// date is a time in one of the ways: ISO with or without a zone, seconds or
// milliseconds since 1970.
type date struct{ time.Time }

var layouts = []string{time.RFC3339, "2006-01-02T15:04:05Z0700", "2006-01-02T15:04:05", "2006-01-02 15:04:05", time.DateOnly}

func (d *date) UnmarshalJSON(data []byte) error {
	d.Time = parseDate(strings.Trim(string(data), `" `))
	return nil
}

func parseDate(s string) time.Time {
	if len(s) > 40 {
		return time.Time{}
	}
	if f, err := strconv.ParseFloat(s, 64); err == nil {
		switch {
		case math.IsNaN(f) || f <= 0 || f > 4e15:
			return time.Time{}
		case f > 1e14: // microseconds
			return time.UnixMicro(int64(f)).UTC()
		case f > 1e11: // no year that concerns us: these are milliseconds
			return time.UnixMilli(int64(f)).UTC()
		}
		return time.UnixMilli(int64(f * 1000)).UTC()
	}
	for _, layout := range layouts {
		if t, err := time.Parse(layout, s); err == nil && t.Year() > 1 {
			return t.UTC()
		}
	}
	return time.Time{}
}

var (
	errList = errors.New("there is no list where one is expected")
	errMany = errors.New("the list is longer than was asked for")
)

// each hands out the elements of a JSON list one by one, so that a page of
// millions of empty objects costs no more than its bytes. No list is an empty one.
func each(raw json.RawMessage, most int, f func(json.RawMessage) error) error {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 || string(raw) == "null" || string(raw) == "{}" {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	if t, err := d.Token(); err != nil || t != json.Delim('[') {
		return errList
	}
	var one json.RawMessage
	for n := 0; d.More(); n++ {
		if n >= most {
			return errMany
		}
		one = one[:0]
		if err := d.Decode(&one); err != nil {
			return errList
		}
		if err := f(one); err != nil {
			return err
		}
	}
	return nil
}

// line makes a platform's text one line of at most so many bytes.
func line(s string, most int) string {
	const tail = "..."
	if len(s) > most*8 {
		s = s[:most*8]
	}
	var out strings.Builder
	blank := false
	for _, r := range s {
		if r == utf8.RuneError || !unicode.IsGraphic(r) || unicode.IsSpace(r) {
			r = ' '
		}
		if r == ' ' {
			blank = out.Len() > 0
			continue
		}
		if blank {
			out.WriteByte(' ')
			blank = false
		}
		out.WriteRune(r)
	}
	if s = out.String(); len(s) <= most {
		return s
	}
	cut := most - len(tail)
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + tail
}
