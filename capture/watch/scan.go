package watch

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"capagent/internal/safefile"
)

// readAtATime bounds what is in memory of a folder with very many files.
const readAtATime = 256

// place is the folder as one scan found it.
type place struct {
	root    string // its real path: no element is a symbolic link
	move    string // the real path of the folder for done files
	foreign string // the kind of its file system if that changes without events
}

// find resolves the configured path, which may be or hold a symbolic link.
func find(c *Config) (place, error) {
	root, err := filepath.EvalSymlinks(absolute(c.Path))
	if err != nil {
		return place{}, safefile.Cause(err)
	}
	info, err := os.Stat(root)
	if err != nil {
		return place{}, safefile.Cause(err)
	}
	if !info.IsDir() {
		return place{}, errors.New("not a folder")
	}
	p := place{root: root, move: realPath(c.MoveDir()), foreign: foreign(root)}
	if inside(root, p.move) {
		return place{}, errors.New("move_to is this folder or above it")
	}
	return p, nil
}

// realPath resolves as much of path as exists.
func realPath(path string) string {
	if found, err := filepath.EvalSymlinks(path); err == nil {
		return found
	}
	dir := filepath.Dir(path)
	if dir == path {
		return path
	}
	return filepath.Join(realPath(dir), filepath.Base(path))
}

// entered reports whether the folder at path is one whose files may be taken.
func (p *place) entered(c *Config, path string) bool {
	if !c.Recursive || hidden(filepath.Base(path)) {
		return false
	}
	if runtime.GOOS == "windows" || runtime.GOOS == "darwin" {
		return !strings.EqualFold(path, p.move)
	}
	return path != p.move
}

// batch is a piece of what a scan found, or its end.
type batch struct {
	dir     string
	files   []found
	refused []refusal
	place   place // found by a full scan at its beginning
	end     *scan
}

type found struct {
	name  string
	facts facts
}

type refusal struct{ path, reason string }

// scan walks over dirs and what is below them, each folder being put under
// watch before it is read: what comes later is told by an event.
type scan struct {
	place
	config *Config
	events *events // nil: none
	full   bool    // everything: place and dirs are found out
	dirs   []string
	out    chan<- batch

	took    time.Duration // without blocked
	blocked time.Duration // waiting for who takes the batches
	files   int
	partial bool  // a folder could not be read for want of means
	err     error // why the root could not be read
	blind   error // why a folder could not be put under watch: the first reason
}

func (s *scan) run(ctx context.Context) {
	began := time.Now()
	if s.full {
		if s.place, s.err = find(s.config); s.err == nil {
			s.dirs = []string{s.root}
			s.send(ctx, batch{place: s.place})
		}
	}
	for len(s.dirs) > 0 && ctx.Err() == nil {
		dir := s.dirs[len(s.dirs)-1]
		s.dirs = s.dirs[:len(s.dirs)-1]
		s.watch(dir)
		err := s.read(ctx, dir)
		switch {
		case err == nil || ctx.Err() != nil:
		case s.full && dir == s.root:
			s.err = safefile.Cause(err)
		case exhausted(err):
			s.partial = true
		case !gone(err):
			s.send(ctx, batch{refused: []refusal{{dir, unreadable(err)}}})
		}
	}
	s.took = time.Since(began) - s.blocked
	select {
	case s.out <- batch{end: s}: // it belongs to the receiver now
	case <-ctx.Done():
	}
}

func (s *scan) watch(dir string) {
	if s.events == nil || s.blind != nil {
		return
	}
	if err := s.events.add(dir); err != nil && !gone(err) && !errors.Is(err, fs.ErrPermission) {
		s.blind = err
	}
}

func (s *scan) send(ctx context.Context, b batch) {
	begin := time.Now()
	select {
	case s.out <- b:
	case <-ctx.Done():
	}
	s.blocked += time.Since(begin)
}

func (s *scan) read(ctx context.Context, dir string) error {
	f, err := openDir(dir)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	rel, _ := below(s.root, dir)
	for {
		entries, err := f.ReadDir(readAtATime)
		b := batch{dir: dir, files: make([]found, 0, len(entries))}
		for _, entry := range entries {
			s.visit(&b, f, rel, entry)
		}
		if len(b.files)+len(b.refused) > 0 {
			s.files += len(b.files)
			s.send(ctx, b)
		}
		if errors.Is(err, io.EOF) || ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (s *scan) visit(b *batch, dir *os.File, rel string, entry fs.DirEntry) {
	name, mode := entry.Name(), entry.Type()
	if mode.IsDir() {
		s.enter(b, entry)
		return
	}
	if !s.config.wanted(rel, name) {
		return
	}
	if !mode.IsRegular() {
		b.refused = append(b.refused, refusal{join(b.dir, name), safefile.Describe(mode)})
		return
	}
	f, err := entryFacts(dir, entry)
	switch {
	case err == nil:
		b.files = append(b.files, found{name, f})
	case exhausted(err):
		s.partial = true
	case !gone(err):
		b.refused = append(b.refused, refusal{join(b.dir, name), unreadable(err)})
	}
}

// enter puts a folder on the list of those to read.
func (s *scan) enter(b *batch, entry fs.DirEntry) {
	path := join(b.dir, entry.Name())
	if looksLikeCapture(entry.Name()) {
		b.refused = append(b.refused, refusal{path, safefile.Describe(fs.ModeDir)})
	}
	if s.entered(s.config, path) {
		s.dirs = append(s.dirs, path)
	} else if path == s.move && s.config.After != AfterMove {
		b.refused = append(b.refused, refusal{path, "the folder for done files (move_to), never watched"})
	}
}
