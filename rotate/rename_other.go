//go:build !linux

package rotate

// renameNew renames a file unless the name is taken.
func renameNew(from, to string) error { return renameFree(from, to) }
