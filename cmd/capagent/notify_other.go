//go:build !linux

package main

// notify is for systemd.
func notify(string) {}
