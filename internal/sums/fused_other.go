//go:build !amd64 || purego

package sums

func newEngine() engine { return newTwice() }
