//go:build !linux

package afpacket

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"capagent/capture"
)

// Open fails: packet sockets are Linux's.
func Open(context.Context, capture.Options) (capture.Source, error) {
	return nil, fmt.Errorf("packet sockets on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}
