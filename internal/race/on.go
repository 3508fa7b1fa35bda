//go:build race

// Package race tells tests whether the race detector is in the program: memory is the
// detector's then, and what takes seconds takes minutes.
package race

// Enabled says that the race detector is in.
const Enabled = true
