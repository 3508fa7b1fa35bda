//go:build unix

package main

import (
	"os"
	"syscall"
)

// What `run` does with signals besides ending.
var (
	reloadSignals  = []os.Signal{syscall.SIGHUP}
	rotateSignals  = []os.Signal{syscall.SIGUSR1}
	triggerSignals = []os.Signal{syscall.SIGUSR2}
)
