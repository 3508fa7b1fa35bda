//go:build race

package main

// raceEnabled says that memory is the race detector's, not ours.
const raceEnabled = true
