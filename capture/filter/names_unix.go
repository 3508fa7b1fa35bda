//go:build !windows

package filter

// etcPath is where the system keeps one of its files of names.
func etcPath(name string) string { return "/etc/" + name }
