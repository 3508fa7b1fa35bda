package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Layer is where a value came from. A later layer beats an earlier one.
type Layer uint8

// The layers in their order.
const (
	FromDefault Layer = iota
	FromFile
	FromEnvironment
	FromFlag
)

// Origin is the place of one value.
type Origin struct {
	Layer  Layer
	File   string // FromFile: the path as it was given
	Line   int    // FromFile: from 1; 0 when only the file is known
	Column int    // FromFile: from 1, counted in characters
	Name   string // FromEnvironment: the variable; FromFlag: the flag with its dashes
}

// String gives "agent.toml:12:3", "environment NAME", "flag --x" or "default".
func (o Origin) String() string {
	switch o.Layer {
	case FromFile:
		if o.Line == 0 {
			return o.File
		}
		return fmt.Sprintf("%s:%d:%d", o.File, o.Line, o.Column)
	case FromEnvironment:
		return "environment " + o.Name
	case FromFlag:
		return "flag " + o.Name
	default:
		return "default"
	}
}

// Error is one thing wrong with the configuration. Its text is one line, names
// the place and the key, and never holds the value or what stands around it.
type Error struct {
	Origin Origin
	Key    string // "cloudshark.max_size"; empty for a syntax error
	Err    error
}

func (e *Error) Error() string {
	var parts []string
	if e.Origin.Layer != FromDefault {
		parts = append(parts, e.Origin.String())
	}
	if e.Key != "" {
		parts = append(parts, e.Key)
	}
	return strings.Join(append(parts, e.Err.Error()), ": ")
}

func (e *Error) Unwrap() error { return e.Err }

// Errors is everything found wrong, sorted by place: the file from top to
// bottom, then the environment, then flags. Its text has one line for each.
type Errors []*Error

// maxErrors bounds the list; a file of nonsense needs no thousand lines to say so.
const maxErrors = 100

func (e Errors) Error() string {
	lines := make([]string, 0, len(e))
	for _, one := range e {
		lines = append(lines, one.Error())
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets errors.Is and errors.As look at each.
func (e Errors) Unwrap() []error {
	out := make([]error, 0, len(e))
	for _, one := range e {
		out = append(out, one)
	}
	return out
}

// Join makes one sorted list of what Load, ResolveSecrets, Errorf and others
// returned, so that the user sees everything at once. Nil errors are left out;
// with nothing left the result is nil.
func Join(errs ...error) error {
	var all Errors
	for _, err := range errs {
		var many Errors
		var one *Error
		switch {
		case err == nil:
		case errors.As(err, &many):
			all = append(all, many...)
		case errors.As(err, &one):
			all = append(all, one)
		default:
			all = append(all, &Error{Err: err})
		}
	}
	if len(all) == 0 {
		return nil
	}
	slices.SortStableFunc(all, func(a, b *Error) int {
		return cmp.Or(
			cmp.Compare(a.Origin.Layer, b.Origin.Layer),
			cmp.Compare(a.Origin.Line, b.Origin.Line),
			cmp.Compare(a.Origin.Column, b.Origin.Column),
			cmp.Compare(a.Origin.Name, b.Origin.Name),
		)
	})
	if len(all) > maxErrors {
		all = append(all[:maxErrors], &Error{Err: errors.New("more errors are not shown; mend these first")})
	}
	return all
}

// shownPath keeps a strange file name from breaking a one-line error.
func shownPath(path string) string {
	quoted := fmt.Sprintf("%q", path)
	if strings.ReplaceAll(quoted[1:len(quoted)-1], `\\`, `\`) == path {
		return path
	}
	return quoted
}
