//go:build unix

package main

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// systemName is what a capture file says of the system it was made on.
func systemName() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return runtime.GOOS
	}
	return unix.ByteSliceToString(u.Sysname[:]) + " " + unix.ByteSliceToString(u.Release[:])
}
