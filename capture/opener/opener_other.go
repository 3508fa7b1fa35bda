//go:build !linux

package opener

import "context"

// Opener does not exist here.
type Opener struct{}

// Start fails.
func Start(context.Context) (*Opener, error) { return nil, ErrUnsupported }

// Handed is nil.
func Handed() *Opener { return nil }

// Restart fails.
func (*Opener) Restart() error { return ErrUnsupported }

// PID is 0.
func (*Opener) PID() int { return 0 }

// Gone is nil.
func (*Opener) Gone() <-chan struct{} { return nil }

// Socket fails.
func (*Opener) Socket(bool) (int, error) { return -1, ErrUnsupported }

// Close does nothing.
func (*Opener) Close() error { return nil }

// Serve fails.
func Serve(func(error)) error { return ErrUnsupported }

// Drop fails.
func Drop() error { return ErrUnsupported }

// May is false.
func May() bool { return false }
