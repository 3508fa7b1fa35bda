//go:build !linux

// Command benchidle measures an agent that has nothing to do, on Linux only.
package main

import (
	"fmt"
	"os"
	"runtime"
)

func main() {
	fmt.Fprintf(os.Stderr, "benchidle: needs Linux's namespaces and /proc, this is %s\n", runtime.GOOS)
	os.Exit(1)
}
