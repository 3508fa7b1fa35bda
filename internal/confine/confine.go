// Package confine takes from this process, for good, what it does not need once it
// runs: files that it never changes, programs that it never starts, system calls that
// it never makes. What breaks into the agent by way of a packet finds only what is left.
//
// It restricts no reading: the configuration may name other files tomorrow, and the
// service manager's bounds stand around the process anyway.
package confine

import (
	"path/filepath"
	"slices"
)

// Bounds is what the process goes on needing.
type Bounds struct {
	// Writable are the directories below which files may be made, changed and deleted.
	// For one that is missing it is the nearest directory above that is there.
	Writable []string
}

// State is what is in force, for the rest of the process's life.
type State struct {
	// Landlock is the version of Landlock that bounds files, 0 where none does.
	Landlock int
	// Writable are the directories that were left writable, without symbolic links;
	// it says nothing without Landlock.
	Writable []string
	// Seccomp says that system calls are filtered by a filter of our own.
	Seccomp bool
	// Reason says why something is not in force, "" when everything is.
	Reason string
}

// Covers says whether files below dir can be changed, as far as this process bound
// itself.
func (s State) Covers(dir string) bool {
	if s.Landlock == 0 {
		return true
	}
	dir = existing(dir)
	return slices.ContainsFunc(s.Writable, func(w string) bool {
		rel, err := filepath.Rel(w, dir)
		return err == nil && filepath.IsLocal(rel)
	})
}

// existing returns dir without symbolic links or, where it is missing, the nearest
// directory above that is there.
func existing(dir string) string {
	for {
		real, err := filepath.EvalSymlinks(dir)
		if err == nil {
			return real
		}
		above := filepath.Dir(dir)
		if above == dir {
			return dir
		}
		dir = above
	}
}
