//go:build !unix

package main

import "runtime"

// systemName is what a capture file says of the system it was made on.
func systemName() string { return runtime.GOOS }
