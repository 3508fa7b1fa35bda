//go:build !linux

package daemon

// Only Linux has priorities of single threads that are easily given; elsewhere
// all goroutines of the agent are equal.
func lowPriority() {}

func highPriority() {}
