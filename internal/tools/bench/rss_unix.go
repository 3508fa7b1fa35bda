//go:build unix

package main

import (
	"os"
	"runtime"
	"syscall"
)

// maxRSS returns bytes; the kernels count in different units.
func maxRSS(p *os.ProcessState) int64 {
	usage, ok := p.SysUsage().(*syscall.Rusage)
	if !ok {
		return 0
	}
	if runtime.GOOS == "darwin" {
		return usage.Maxrss
	}
	return usage.Maxrss << 10
}
