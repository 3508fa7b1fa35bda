package config

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"capagent/internal/secret"
)

// Origin says where the value of key came from. Of a table it is the header.
func (l *Loaded) Origin(key string) Origin { return l.origins[key] }

// origin is Origin for an error: a key that nobody set is at its table's header,
// or else in the file as a whole.
func (l *Loaded) origin(key string) Origin {
	for at := key; at != ""; {
		if o, ok := l.origins[at]; ok {
			return o
		}
		at = at[:max(0, strings.LastIndexByte(at, '.'))]
	}
	if l.Path != "" {
		return Origin{Layer: FromFile, File: shownPath(l.Path)}
	}
	return Origin{}
}

// Errorf makes an error at the place of key, for what only its owner can judge.
// By the rule of this package the text must not hold the value.
// For a secret it names the form that was used, such as cloudshark.token_file.
func (l *Loaded) Errorf(key, format string, args ...any) error {
	key = l.usedForm(key)
	return &Error{Origin: l.origin(key), Key: key, Err: fmt.Errorf(format, args...)}
}

// OneOf returns nil when value is one of allowed, else an error at the place of
// key that lists them and suggests the nearest.
func (l *Loaded) OneOf(key, value string, allowed ...string) error {
	if slices.Contains(allowed, value) {
		return nil
	}
	text := "expected one of " + strings.Join(allowed, ", ")
	if near, ok := Nearest(value, allowed); ok {
		text += fmt.Sprintf("; did you mean %q?", near)
	}
	return l.Errorf(key, "%s", text)
}

// Row is one value as it is in effect.
type Row struct {
	Key    string `json:"key"`
	Value  string `json:"value"` // TOML text; secrets are ***, unset ones ""
	Origin string `json:"origin"`
}

// Effective lists every key, its value and where that came from, in the order
// of the struct.
func (l *Loaded) Effective() []Row {
	var rows []Row
	l.root.leaves(l.dst, "", func(f leaf) {
		at := f.path
		if f.node.isSecret() {
			at = l.usedForm(at)
		}
		rows = append(rows, Row{Key: f.path, Value: tomlText(f.value), Origin: l.origins[at].String()})
	})
	return rows
}

// Key is one key that a configuration struct knows.
type Key struct {
	Path    string // "cloudshark.max_size"; in a list of tables "watch[].path"
	Type    string // what it takes, in words
	Default string // TOML text; "" in quotes when there is none
	Secret  bool
}

// Keys lists the keys of the struct that ptr points to, in its order. Defaults
// are what the struct holds; those of a list's elements come from SetDefaults.
func Keys(ptr any) []Key {
	v := reflect.ValueOf(ptr).Elem()
	return keysOf(schemaOf(v.Type()), v)
}

func keysOf(n *node, v reflect.Value) []Key {
	var out []Key
	for _, c := range n.children {
		switch c.shape {
		case isValue:
			fv := v.FieldByIndex(c.index)
			out = append(out, Key{Path: c.path, Type: describe(c.typ), Default: tomlText(fv), Secret: c.isSecret()})
		case isTable:
			out = append(out, keysOf(c, v.FieldByIndex(c.index))...)
		case isTables:
			out = append(out, keysOf(c, newElement(c.typ))...)
		}
	}
	return out
}

// tomlText writes a value as it would stand in a file.
func tomlText(v reflect.Value) string {
	if s, ok := v.Interface().(secret.Secret); ok && s.IsZero() {
		return `""`
	}
	if m, ok := v.Interface().(encoding.TextMarshaler); ok {
		text, err := m.MarshalText()
		if err != nil {
			return `""`
		}
		if _, bare := v.Interface().(bareNumber); bare && string(text) == "0" {
			return "0"
		}
		return quote(string(text))
	}
	switch {
	case v.Kind() == reflect.String:
		return quote(v.String())
	case v.Kind() == reflect.Slice:
		parts := make([]string, 0, v.Len())
		for i := range v.Len() {
			parts = append(parts, tomlText(v.Index(i)))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case v.CanFloat():
		text := strconv.FormatFloat(v.Float(), 'g', -1, 64)
		if !strings.ContainsAny(text, ".en") {
			text += ".0"
		}
		return text
	default:
		return fmt.Sprint(v.Interface())
	}
}

// quote writes a TOML basic string.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range strings.ToValidUTF8(s, "\ufffd") {
		switch {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteRune(c)
		case c < 0x20 || c == 0x7f || c >= 0x80 && !strconv.IsPrint(c):
			fmt.Fprintf(&b, `\U%08X`, c)
		default:
			b.WriteRune(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}
