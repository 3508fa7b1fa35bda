//go:build !linux

// Command benchcapture measures live capture, on Linux only.
package main

import (
	"fmt"
	"os"
	"runtime"
)

func main() {
	fmt.Fprintf(os.Stderr, "benchcapture: needs Linux's namespaces and packet sockets, this is %s\n", runtime.GOOS)
	os.Exit(1)
}
