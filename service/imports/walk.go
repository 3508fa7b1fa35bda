// Package imports is the responder's way in: it walks trees of existing capture
// files without leaving a mark on them, registers what it finds, has it
// uploaded in the order of the first packets, and accounts for every file in a
// manifest. It follows no link below the given folders, opens nothing that
// could block, and judges a file by its content.
package imports

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"capagent/internal/safefile"
)

// found is a directory entry that the walk came across: a regular file to look
// into, or something with a reason why it is not looked into.
type found struct {
	path, name string // absolute; as people should see it
	size       int64
	refused    string // "symbolic link", "named pipe"…: not followed, not opened
	err        error  // could not be read at all
}

// walk calls visit for everything below roots that is not a directory. A root
// may itself be a file, or a link that the user chose to name.
func walk(ctx context.Context, roots []string, visit func(found)) error {
	tops, err := resolve(roots)
	if err != nil {
		return err
	}
	for _, top := range tops {
		err := filepath.WalkDir(top, func(path string, entry fs.DirEntry, err error) error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if path != top && slices.Contains(tops, path) { // a root of its own
				if entry != nil && entry.IsDir() {
					return fs.SkipDir
				}
				return nil
			}
			visitEntry(top, path, entry, err, visit)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// resolve returns the real absolute paths of roots, each once.
func resolve(roots []string) ([]string, error) {
	var tops []string
	for _, root := range roots {
		top, err := filepath.Abs(root)
		if err == nil {
			top, err = filepath.EvalSymlinks(top)
		}
		if err != nil {
			return nil, fmt.Errorf("import %q: %w", root, safefile.Cause(err))
		}
		if !slices.Contains(tops, top) {
			tops = append(tops, top)
		}
	}
	return tops, nil
}

func visitEntry(top, path string, entry fs.DirEntry, err error, visit func(found)) {
	f := found{path: path, name: below(top, path)}
	if err != nil {
		f.err = safefile.Cause(err)
		visit(f)
		return
	}
	if entry.IsDir() {
		return
	}
	if !entry.Type().IsRegular() {
		f.refused = safefile.Describe(entry.Type())
		visit(f)
		return
	}
	if info, err := entry.Info(); err != nil {
		f.err = safefile.Cause(err)
	} else {
		f.size = info.Size()
	}
	visit(f)
}

func below(top, path string) string {
	if rel, err := filepath.Rel(top, path); err == nil && rel != "." {
		return rel
	}
	return filepath.Base(path)
}

// Inside reports whether a file made at path would lie in one of the trees
// below roots.
func Inside(path string, roots []string) bool {
	tops, err := resolve(roots)
	if err != nil {
		return false
	}
	dir, err := resolve([]string{filepath.Dir(path)})
	if err != nil {
		return false
	}
	return slices.ContainsFunc(tops, func(top string) bool {
		rel, err := filepath.Rel(top, dir[0])
		return err == nil && filepath.IsLocal(rel)
	})
}
