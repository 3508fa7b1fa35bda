package cado

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Values are what templates are filled in with. Time is the capture's, not the
// import's: the same capture has the same project and key whenever it is asked.
type Values struct {
	Agent string
	Case  string // "" without one
	Time  time.Time
}

// placeholders are the names between braces. {day} is {date} for those who look
// for a project per day.
var placeholders = []string{"agent", "case", "date", "day"}

func (v Values) of(name string) string {
	switch name {
	case "agent":
		return v.Agent
	case "case":
		return v.Case
	default:
		return v.Time.UTC().Format(time.DateOnly)
	}
}

// Limits of what templates give.
const (
	maxTemplate    = 200
	maxProjectName = 80   // characters (contracts/cado.md 5.2)
	maxObjectKey   = 1024 // bytes: S3's own limit
	maxPart        = 100  // bytes of one value in a key
)

// piece is a literal text, or the names of which the first that is not empty counts.
type piece struct {
	text  string
	names []string
}

type template []piece

func parseTemplate(text string) (template, error) {
	if len(text) > maxTemplate || line(text, maxTemplate) != strings.TrimSpace(text) {
		return nil, fmt.Errorf("expected at most %d printable characters", maxTemplate)
	}
	var t template
	for rest := text; rest != ""; {
		literal, after, open := strings.Cut(rest, "{")
		if strings.Contains(literal, "}") {
			return nil, errors.New("expected a { before each }")
		}
		if literal != "" {
			t = append(t, piece{text: literal})
		}
		if !open {
			break
		}
		inside, after, closed := strings.Cut(after, "}")
		if !closed {
			return nil, errors.New("expected a } after each {")
		}
		names := strings.Split(inside, "|")
		for _, n := range names {
			if !slices.Contains(placeholders, n) {
				return nil, errors.New("unknown placeholder; known are {agent}, {case}, {date} and {day}, and {a|b} for the first that is not empty")
			}
		}
		t = append(t, piece{names: names})
		rest = after
	}
	return t, nil
}

// checkKey says whether the literal parts may stand in a key.
func (t template) checkKey() error {
	var all strings.Builder
	for _, p := range t {
		if all.WriteString(p.text); len(p.names) > 0 {
			all.WriteString("x")
		}
	}
	text := all.String()
	for _, r := range text {
		if r != '/' && !plainInKey(r) {
			return errors.New("expected letters, digits, dots, hyphens, underscores and slashes beside placeholders")
		}
	}
	if strings.HasPrefix(text, "/") || strings.Contains(text, "//") || strings.Contains("/"+text+"/", "/../") || strings.Contains("/"+text+"/", "/./") {
		return errors.New("expected folders that have names, not dots alone")
	}
	return nil
}

func (t template) expand(v Values, clean func(string) string) string {
	var out strings.Builder
	for _, p := range t {
		out.WriteString(p.text)
		for _, n := range p.names {
			if s := clean(v.of(n)); s != "" {
				out.WriteString(s)
				break
			}
		}
	}
	return out.String()
}

// ProjectName returns the name of the project that a capture belongs to: one
// line of at most 80 characters. What is longer ends in a piece of its own hash.
func (c *Config) ProjectName(v Values) string {
	t, err := parseTemplate(c.Project)
	if err != nil { // Validate says so
		return ""
	}
	name := strings.TrimSpace(t.expand(v, func(s string) string { return line(s, 4*maxTemplate) }))
	if utf8.RuneCountInString(name) <= maxProjectName {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	tail := "-" + hex.EncodeToString(sum[:4])
	return string([]rune(name)[:maxProjectName-len(tail)]) + tail
}

// Key returns the key under which a file is put into the bucket. Names are from
// packets' files: only plain characters are left of them, and no folder.
func (c *Config) Key(v Values, name string) string {
	t, err := parseTemplate(c.Prefix)
	if err != nil {
		return ""
	}
	key := t.expand(v, keyPart) + keyPart(name)
	return key[:min(len(key), maxObjectKey)]
}

func plainInKey(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '-' || r == '_'
}

// keyPart makes text one folder or file name of a key. What was changed or cut
// keeps apart by a piece of its hash.
func keyPart(s string) string {
	out := strings.Map(func(r rune) rune {
		if plainInKey(r) {
			return r
		}
		return '_'
	}, s)
	if out == s && len(s) <= maxPart && strings.Trim(s, ".") == s {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	tail := "-" + hex.EncodeToString(sum[:4])
	ext := ""
	if i := strings.LastIndexByte(out, '.'); i > 0 && len(out)-i <= 8 {
		out, ext = out[:i], out[i:]
	}
	return strings.Trim(out[:min(len(out), maxPart-len(tail)-len(ext))], ".") + tail + strings.TrimRight(ext, ".")
}
