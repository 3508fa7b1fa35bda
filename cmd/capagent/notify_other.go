//go:build !linux

package main

import "time"

// notify is for systemd.
func notify(string) {}

// watchdog is systemd's.
func watchdog() time.Duration { return 0 }
