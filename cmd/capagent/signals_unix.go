//go:build unix

package main

import (
	"os"
	"syscall"
)

// What `run` does with signals besides ending.
var (
	reloadSignals = []os.Signal{syscall.SIGHUP}
	otherSignals  = []os.Signal{syscall.SIGUSR1, syscall.SIGUSR2}
)
