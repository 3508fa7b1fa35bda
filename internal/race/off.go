//go:build !race

package race

// Enabled says that the race detector is in.
const Enabled = false
