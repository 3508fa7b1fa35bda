package main

import (
	"os"
	"syscall"
)

// resident is the most memory that a process had, in bytes.
func resident(p *os.ProcessState) int64 {
	if usage, ok := p.SysUsage().(*syscall.Rusage); ok {
		return int64(usage.Maxrss) << 10 //nolint:unconvert // int32 on 32 bits
	}
	return 0
}
