package main

import (
	"os"
	"syscall"
)

// resident is the most memory that a process had, in bytes.
func resident(p *os.ProcessState) int64 {
	if usage, ok := p.SysUsage().(*syscall.Rusage); ok {
		return usage.Maxrss << 10
	}
	return 0
}
