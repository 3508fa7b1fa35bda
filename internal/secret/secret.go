// Package secret holds passwords and tokens: a type that prints as *** however
// it is printed, the ways by which one may be given (literal, file, command,
// or a reference such as "@{env:NAME}"), and a writer that masks known secrets.
//
// Limits: a secret is at most 64 KiB. Values live in ordinary Go memory; the
// package does not wipe or lock pages. Errors name the key and the reference
// and never hold a value, a command's output or a piece of either.
package secret

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"unique"
)

// Mask is what every way of printing a Secret gives.
const Mask = "***"

// Secret is a value that must not be shown. The zero value is unset.
//
// Secrets are equal under == and reflect.DeepEqual when their contents are.
// The handle inside keeps fmt from reaching the text even where it may not
// call methods (an unexported field of somebody else's struct).
type Secret struct {
	value unique.Handle[string]
	// ref is true when value is a reference such as "@{env:NAME}" that
	// Resolve has yet to follow.
	ref bool
}

// New returns a Secret with exactly the given value; an empty value is unset.
// References are not looked at: "@{env:X}" is then the secret itself.
func New(value string) Secret {
	if value == "" {
		return Secret{}
	}
	return Secret{value: unique.Make(value)}
}

func (s Secret) text() string {
	if s.value == (unique.Handle[string]{}) {
		return ""
	}
	return s.value.Value()
}

// Reveal is the one way to the value. It is empty when the secret is unset or
// still an unresolved reference.
func (s Secret) Reveal() string {
	if s.ref {
		return ""
	}
	return s.text()
}

// IsZero reports whether the secret is unset. An unresolved reference is set.
func (s Secret) IsZero() bool { return s.text() == "" }

// IsReference reports whether the secret is a reference that was not resolved yet.
func (s Secret) IsReference() bool { return s.ref }

// Equal compares without telling by its duration where two values differ.
func (s Secret) Equal(other Secret) bool {
	return s.ref == other.ref && subtle.ConstantTimeCompare([]byte(s.text()), []byte(other.text())) == 1
}

// UnmarshalText takes a literal or a "@{store:name}" reference, as it stands in
// a configuration. It refuses the mask itself, which is what one gets by
// copying a printed configuration back into a file.
func (s *Secret) UnmarshalText(text []byte) error {
	if string(text) == Mask {
		return errors.New("expected a secret, found the mask " + Mask + " that stands for one in output")
	}
	*s = New(string(text))
	s.ref = strings.HasPrefix(string(text), "@{")
	return nil
}

// Expected says in general words what UnmarshalText takes.
func (Secret) Expected() string {
	return `a secret or a reference such as "@{env:NAME}" or "@{file:/path}"`
}

// String returns the mask.
func (Secret) String() string { return Mask }

// GoString returns the mask.
func (Secret) GoString() string { return Mask }

// Format writes the mask for every verb and flag.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, Mask) }

// MarshalText returns the mask. It also keeps the value out of JSON, TOML, XML
// and, by way of JSON, zerolog.
func (Secret) MarshalText() ([]byte, error) { return []byte(Mask), nil }

// MarshalJSON returns the mask as a JSON string.
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + Mask + `"`), nil }

// LogValue returns the mask to log/slog.
func (Secret) LogValue() slog.Value { return slog.StringValue(Mask) }
