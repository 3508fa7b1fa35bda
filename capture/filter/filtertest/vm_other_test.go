//go:build !linux

package filtertest

import (
	"testing"

	"golang.org/x/net/bpf"
)

func kernel(testing.TB) func([]bpf.RawInstruction) error { return nil }
