//go:build !linux

package traffic

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
)

func notHere(op string) error {
	return fmt.Errorf("%s: needs Linux, this is %s: %w", op, runtime.GOOS, errors.ErrUnsupported)
}

// Pair is made on Linux only.
type Pair struct{}

// NewPair fails.
func NewPair(context.Context, Options) (*Pair, error) { return nil, notHere("make namespaces") }

// Sweep has nothing to do.
func Sweep(context.Context, string) error { return nil }

// Namespace is "": there is none.
func (*Pair) Namespace(Side) string { return "" }

// Command returns a command that fails to start.
func (*Pair) Command(ctx context.Context, _ Side, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Err = notHere("enter namespace")
	return cmd
}

// Do fails.
func (*Pair) Do(Side, func() error) error { return notHere("enter namespace") }

// Send fails.
func (*Pair) Send(context.Context, Load) (Sent, error) { return Sent{}, notHere("send") }

// Counters fails.
func (*Pair) Counters(Side) (Counters, error) { return Counters{}, notHere("read counters") }

// Remove fails.
func (*Pair) Remove(context.Context) error { return notHere("remove interfaces") }

// Create fails.
func (*Pair) Create(context.Context) error { return notHere("create interfaces") }

// Close has nothing to do.
func (*Pair) Close() error { return nil }

// Send fails.
func Send(context.Context, string, Load) (Sent, error) { return Sent{}, notHere("send") }
