package main

import (
	"context"
	"errors"
	"fmt"

	"capagent/internal/failure"
)

// The exit codes of docs/commands.md. They never change their meaning.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitSome        = 3
	exitNothing     = 4
	exitFindings    = 5
	exitUnavailable = 69
	exitQueued      = 75
	exitPermission  = 77
	exitConfig      = 78
	exitInterrupted = 130
)

// exitError carries the code with which the process ends. An empty text prints
// nothing: everything was said already.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}
func (e *exitError) Unwrap() error { return e.err }

func exitWith(code int, err error) error { return &exitError{code, err} }

func usageError(format string, args ...any) error {
	return &exitError{exitUsage, fmt.Errorf(format, args...)}
}

// exitCode chooses the code for err.
func exitCode(err error) int {
	var e *exitError
	var f *failure.Error
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &e):
		return e.code
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.As(err, &f):
		return failureCode(f)
	default:
		return exitFailed
	}
}

// failureCode chooses the code for what stopped a capture: a closed door is a
// matter of permission, everything else that may pass leaves it queued.
func failureCode(f *failure.Error) int {
	switch f.Class {
	case "bad_token", "login_needed", "no_permission", "bad_credentials", "no_licence", "no_owner":
		return exitPermission
	case "bad_url", "redirect", "tls":
		return exitUnavailable
	case "interrupted":
		return exitInterrupted
	}
	if f.Kind == failure.Permanent {
		return exitFailed
	}
	return exitQueued
}
