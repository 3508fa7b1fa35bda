//go:build linux && !amd64 && !arm64

package faulttest

import (
	"errors"
	"syscall"
)

// BadFS is there where go-fuse builds: it does not on 32 bits.
type BadFS struct{ Mount, Behind string }

// NewBadFS fails.
func NewBadFS(string) (*BadFS, error) { return nil, errors.New("fuse: not on this processor") }

func (*BadFS) FailReads(syscall.Errno)  {}
func (*BadFS) FailWrites(syscall.Errno) {}
func (*BadFS) FailFsyncs(syscall.Errno) {}
func (*BadFS) Close() error             { return nil }
