package config

import (
	"encoding"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// expecter is a value type that says what it takes, with an example.
type expecter interface{ Expected() string }

// bareNumber is a type with units that also takes a number without quotes.
type bareNumber interface{ bareNumber() }

// describe says what a value of type t looks like; empty when t can't be a value.
func describe(t reflect.Type) string {
	if e, ok := reflect.New(t).Interface().(expecter); ok {
		return e.Expected()
	}
	switch {
	case isText(t):
		return "text in its own form"
	case t.Kind() == reflect.String:
		return "a string in quotes"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() >= reflect.Int && t.Kind() <= reflect.Int64:
		if t.Bits() == 64 || t.Kind() == reflect.Int {
			return "a whole number"
		}
		limit := int64(1) << (t.Bits() - 1)
		return fmt.Sprintf("a whole number from %d to %d", -limit, limit-1)
	case t.Kind() >= reflect.Uint && t.Kind() <= reflect.Uint64:
		if t.Bits() == 64 || t.Kind() == reflect.Uint {
			return "a whole number, 0 or more"
		}
		return fmt.Sprintf("a whole number from 0 to %d", uint64(math.MaxUint64)>>(64-t.Bits()))
	case t.Kind() == reflect.Float32, t.Kind() == reflect.Float64:
		return "a number"
	case t.Kind() == reflect.Slice && t.Elem().Kind() != reflect.Slice && describe(t.Elem()) != "":
		return "a list such as " + listExample(t.Elem())
	}
	return ""
}

func listExample(t reflect.Type) string {
	if t.Kind() == reflect.String && !isText(t) {
		return `["a", "b"]`
	}
	if t.Kind() >= reflect.Int && t.Kind() <= reflect.Float64 && !isText(t) {
		return "[1, 2]"
	}
	return "[…], each " + describe(t)
}

// literal is a TOML value taken from the document.
type literal struct {
	kind unstable.Kind
	text string // of a string: its contents; else as written
	list []literal
}

var kindNames = map[unstable.Kind]string{
	unstable.String: "a string", unstable.Bool: "true or false", unstable.Integer: "a whole number",
	unstable.Float: "a number with a fraction", unstable.Array: "a list", unstable.InlineTable: "a table",
	unstable.LocalDate: "a date", unstable.LocalTime: "a time", unstable.LocalDateTime: "a date", unstable.DateTime: "a date",
}

// found says what a literal is without saying what it holds. ofKind tells that
// its kind was right and its contents were not.
func (l literal) found(t reflect.Type) string {
	name := kindNames[l.kind]
	number := t.Kind() >= reflect.Int && t.Kind() <= reflect.Float64 && !isText(t)
	switch {
	case l.kind == unstable.String && isText(t):
		return name + " that isn't one"
	case l.kind == unstable.Integer && number:
		return "one that is out of range"
	case l.kind == unstable.Array && t.Kind() == reflect.Slice:
		return "a list with something else in it"
	case l.kind == unstable.Integer && reflect.New(t).Type().Implements(reflect.TypeFor[bareNumber]()):
		return "a number without a unit"
	}
	return name
}

// decode turns a TOML value into a value of type t.
func (l literal) decode(t reflect.Type) (reflect.Value, bool) {
	p := reflect.New(t)
	v := p.Elem()
	if u, ok := p.Interface().(encoding.TextUnmarshaler); ok {
		if _, bare := p.Interface().(bareNumber); l.kind != unstable.String && (!bare || l.kind != unstable.Integer) {
			return v, false
		}
		return v, u.UnmarshalText([]byte(l.text)) == nil
	}
	if t.Kind() == reflect.Slice {
		if l.kind != unstable.Array {
			return v, false
		}
		v.Set(reflect.MakeSlice(t, 0, len(l.list)))
		for _, one := range l.list {
			e, ok := one.decode(t.Elem())
			if !ok {
				return v, false
			}
			v.Set(reflect.Append(v, e))
		}
		return v, true
	}
	want := map[bool]unstable.Kind{true: unstable.Integer, false: unstable.Float}[v.CanInt() || v.CanUint()]
	switch t.Kind() {
	case reflect.String:
		want = unstable.String
	case reflect.Bool:
		want = unstable.Bool
	}
	if l.kind != want && (want != unstable.Float || l.kind != unstable.Integer) {
		return v, false
	}
	return v, setScalar(v, l.text)
}

// setScalar reads TOML's own forms of numbers, whose syntax the parser or the
// caller has checked: signs, underscores and the prefixes 0x, 0o and 0b.
func setScalar(v reflect.Value, text string) bool {
	switch {
	case v.Kind() == reflect.String:
		v.SetString(text)
	case v.Kind() == reflect.Bool:
		v.SetBool(text == "true")
		return text == "true" || text == "false"
	case v.CanInt():
		n, err := strconv.ParseInt(text, 0, v.Type().Bits())
		v.SetInt(n)
		return err == nil
	case v.CanUint():
		n, err := strconv.ParseUint(strings.TrimPrefix(text, "+"), 0, v.Type().Bits())
		v.SetUint(n)
		return err == nil
	case v.CanFloat():
		n, err := strconv.ParseFloat(strings.ReplaceAll(text, "_", ""), v.Type().Bits())
		v.SetFloat(n)
		return err == nil
	default:
		return false
	}
	return true
}

// decodeText turns the text of a variable or a flag into a value of type t.
// Lists are separated by commas; blanks around an element and empty elements
// do not count.
func decodeText(t reflect.Type, text string) (reflect.Value, bool) {
	p := reflect.New(t)
	v := p.Elem()
	if u, ok := p.Interface().(encoding.TextUnmarshaler); ok {
		return v, u.UnmarshalText([]byte(text)) == nil
	}
	if t.Kind() != reflect.Slice {
		// strconv would read 010 as 8; TOML has no such number.
		octal := len(text) > 1 && text[0] == '0' && text[1] >= '0' && text[1] <= '9'
		return v, (t.Kind() == reflect.String || !octal) && setScalar(v, text)
	}
	v.Set(reflect.MakeSlice(t, 0, 0))
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		e, ok := decodeText(t.Elem(), part)
		if !ok {
			return v, false
		}
		v.Set(reflect.Append(v, e))
	}
	return v, true
}
