package cloudtrax

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"

	"capagent/enrich/device"
)

// CloudTrax's types vary (contract 2.3). The types here take what comes, and are zero
// where it makes no sense: a strange field is no reason to lose a record.

// name is text that people see.
type name string

func (n *name) UnmarshalJSON(data []byte) error {
	*n = name(device.Clean(plain(data)))
	return nil
}

// word is text for programs: an id, an address.
type word string

const maxWord = 200 // bytes; longer ones make no sense

func (w *word) UnmarshalJSON(data []byte) error {
	if *w = ""; len(data) <= maxWord {
		*w = word(strings.TrimSpace(plain(data)))
	}
	return nil
}

// plain is a string, or a number or truth value as text.
func plain(data []byte) string {
	switch {
	case len(data) == 0 || data[0] == '{' || data[0] == '[' || string(data) == "null":
		return ""
	case data[0] == '"':
		var s string
		if json.Unmarshal(data, &s) != nil {
			return ""
		}
		return s
	}
	return string(data)
}

// flag is true, 1, "1" or "true".
type flag bool

func (f *flag) UnmarshalJSON(data []byte) error {
	text := ""
	if len(data) <= maxWord {
		text = plain(data)
	}
	on, err := strconv.ParseBool(text)
	*f = flag(err == nil && on)
	return nil
}

// moment is a time of RFC 3339; "" is none.
type moment struct{ time.Time }

func (m *moment) UnmarshalJSON(data []byte) error {
	m.Time = time.Time{}
	if len(data) > maxWord {
		return nil
	}
	if t, err := time.Parse(time.RFC3339, plain(data)); err == nil && t.Year() > 1970 && t.Year() < 3000 {
		m.Time = t.UTC()
	}
	return nil
}

// loose is a record of which no more than its fields are looked at; anything else
// than an object is an empty one.
type loose[T any] struct{ v T }

func (l *loose[T]) UnmarshalJSON(data []byte) error {
	l.v = *new(T)
	if len(data) > 0 && data[0] == '{' && json.Unmarshal(data, &l.v) != nil {
		l.v = *new(T)
	}
	return nil
}

var errNoList = errors.New("neither a list nor an object")

// each hands out the records of a list, which comes as an array, or as an object whose
// keys say something of them, until f has enough. null is an empty list. A record is
// f's until it returns.
func each(data []byte, f func(key string, record json.RawMessage) (more bool)) error {
	data = bytes.TrimSpace(data)
	if string(data) == "null" {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	first, err := dec.Token()
	if err != nil || first != json.Delim('[') && first != json.Delim('{') {
		return errNoList
	}
	var record json.RawMessage
	for dec.More() {
		key := ""
		if first == json.Delim('{') {
			t, err := dec.Token()
			if err != nil {
				return errNoList
			}
			key, _ = t.(string)
		}
		if err := dec.Decode(&record); err != nil {
			return errNoList
		}
		if !f(key, record) {
			return nil
		}
	}
	return nil
}
