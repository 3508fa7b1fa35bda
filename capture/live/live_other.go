//go:build !(linux || darwin || dragonfly || freebsd || netbsd || openbsd || (windows && amd64))

package live

import (
	"context"
	"errors"
	"runtime"

	"capagent/capture"
)

var errNone = errors.New("live capture is not built for " + runtime.GOOS + "/" + runtime.GOARCH +
	"; capture with another program into a folder, and have capagent watch that")

// Open fails: there is no engine for this system.
func Open(context.Context, capture.Options) (capture.Source, error) { return nil, errNone }

// Ready says what keeps every capture from running.
func Ready() error { return errNone }

func examine(all []Interface) ([]Interface, error) {
	for i := range all {
		all[i].Problem = errNone
	}
	return all, nil
}
