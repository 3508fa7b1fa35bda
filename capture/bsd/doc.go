//go:build !(darwin || dragonfly || freebsd || netbsd || openbsd)

// Package bsd captures on macOS and the BSDs. It is empty on other systems.
package bsd
