// Package failure gives the agent's errors the three kinds that callers switch
// on. The text of an error is for people; its kind decides what happens next.
package failure

import (
	"errors"
	"time"
)

// Kind says what a failure means for the work that met it.
type Kind uint8

// The zero value is Retry: an error that nobody classified is tried again.
const (
	Retry     Kind = iota // the same work may succeed later
	Permanent             // this capture will never succeed as it is; others go on
	Pause                 // the destination is closed to every capture until someone or something changes it
)

func (k Kind) String() string {
	switch k {
	case Permanent:
		return "permanent"
	case Pause:
		return "pause"
	default:
		return "retry"
	}
}

// Error is a failure with its kind. Class is a short stable word that logs and
// --json carry ("bad_token", "quota", "network"); Hint, when not empty, is one
// line that tells the user what to do.
type Error struct {
	Kind  Kind
	Class string
	Hint  string
	// RetryAfter is what the other side asked for; 0 when it asked for nothing.
	RetryAfter time.Duration
	Err        error
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// As returns the failure inside err, or one of kind Retry and class "unknown"
// around it. It returns nil for a nil error.
func As(err error) *Error {
	if err == nil {
		return nil
	}
	var f *Error
	if errors.As(err, &f) {
		return f
	}
	return &Error{Class: "unknown", Err: err}
}
