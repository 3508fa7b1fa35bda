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
	"time"
)

// Bounds is what the process goes on needing.
type Bounds struct {
	// Writable are the directories below which files may be made, changed and deleted.
	// For one that is missing it is the nearest directory above that is there, but never
	// the root.
	Writable []string
	// Mounts are the same, but something may be mounted there anew: what is mounted is
	// reached by the directory above only, so that is what is left writable.
	Mounts []string
}

// State is what is in force, for the rest of the process's life.
type State struct {
	// Landlock is the version of Landlock that bounds files, 0 where none does.
	Landlock int
	// Writable are the directories that were left writable, without symbolic links;
	// there are none without Landlock.
	Writable []string
	// Seccomp says that system calls are filtered by a filter of our own.
	Seccomp bool
	// Reason says why something is not in force, "" when everything is.
	Reason string
}

// Covers says whether files below dir can be changed, as far as this process bound
// itself. A directory that does not answer is not covered.
func (s State) Covers(dir string) bool {
	if s.Landlock == 0 {
		return true
	}
	at, silent := resolve([]string{dir}, existing)
	return silent == "" && slices.ContainsFunc(s.Writable, func(w string) bool {
		rel, err := filepath.Rel(w, at[0])
		return err == nil && filepath.IsLocal(rel)
	})
}

// existing returns dir without symbolic links or, where it is missing, the nearest
// directory above that is there.
func existing(dir string) string {
	for {
		at, err := filepath.EvalSymlinks(dir)
		if err == nil {
			return at
		}
		up := filepath.Dir(dir)
		if up == dir {
			return dir
		}
		dir = up
	}
}

// above returns the directory above the real place of dir, if that is there, and not
// the root.
func above(dir string) string {
	at, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return existing(dir)
	}
	if up := filepath.Dir(at); up != filepath.Dir(up) {
		return up
	}
	return at
}

// patience is how long a directory may take to say what it is: a file server that is
// away keeps whoever asks waiting.
const patience = 5 * time.Second

// resolve looks up these directories by how, and names the one that does not answer, if
// there is one.
func resolve(dirs []string, how func(string) string) (at []string, silent string) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for _, dir := range dirs {
		found := make(chan string, 1)
		go func() { found <- how(dir) }() // ends when the directory answers
		select {
		case place := <-found:
			at = append(at, place)
		case <-timer.C:
			return nil, dir
		}
	}
	return at, ""
}
