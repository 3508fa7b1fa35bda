//go:build !linux

package main

import "os"

// resident is not known on this system.
func resident(*os.ProcessState) int64 { return 0 }
