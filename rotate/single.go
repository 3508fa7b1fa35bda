package rotate

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"capagent/internal/pcapio"
	"capagent/internal/quote"
	"capagent/internal/safefile"
)

// Single is one file of a directory that Salvage looks after, for who writes no
// row of files.
type Single struct{ file file }

// NewSingle makes the .part of a file of source, which begins at t, in dir, which
// is made when there is none. The caller fills and closes the os.File, then seals
// or removes the Single.
func NewSingle(dir, source string, t time.Time, format pcapio.Format) (*Single, *os.File, error) {
	r := &Rotator{opts: Options{Dir: dir, Name: safe(source)}}
	next := file{format: format, first: t.UnixNano()}
	f, err := r.create(&next)
	if err != nil {
		return nil, nil, err
	}
	return &Single{next}, f, nil
}

// Part is where the file lies before it is sealed.
func (s *Single) Part() string { return s.file.part }

// Path is where the file lies when it is sealed.
func (s *Single) Path() string { return s.file.path }

// Seal gives the file, which is complete and on the disk, its last name, and
// returns that. Nothing else may be done after it.
func (s *Single) Seal() (string, error) {
	defer s.file.unlock()
	if err := publish(s.file.part, s.file.path, true); err != nil {
		return s.file.part, err
	}
	return s.file.path, nil
}

// Remove takes the file away. Nothing else may be done after it.
func (s *Single) Remove() error {
	defer s.file.unlock()
	if err := os.Remove(s.file.part); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", quote.Path(s.file.part), safefile.Cause(err))
	}
	return nil
}
