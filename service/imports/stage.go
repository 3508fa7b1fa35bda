package imports

import (
	"bytes"
	"encoding/gob"
	"errors"
	"os"
	"sync"

	"capagent/enrich/device"
	"capagent/internal/ledger"
)

// stage keeps what captures hold that have no row yet in a file of its own:
// a tree of evidence has more of them than memory.
type stage struct {
	mu   sync.Mutex
	f    *os.File
	size int64
}

// staged is what a capture holds.
type staged struct {
	Sightings []ledger.Sighting
	Machines  *device.Capture // nil: nobody has names for them
}

// place is where what a capture holds lies; the zero value is none.
type place struct{ offset, length int64 }

// newStage makes the file in dir; it is gone when it is closed.
func newStage(dir string) (*stage, error) {
	f, err := os.CreateTemp(dir, "sightings-*.tmp")
	return &stage{f: f}, err
}

func (s *stage) close() error {
	return errors.Join(s.f.Close(), os.Remove(s.f.Name()))
}

func (s *stage) put(one staged) (place, error) {
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(one); err != nil {
		return place{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p := place{s.size, int64(b.Len())}
	if _, err := s.f.WriteAt(b.Bytes(), p.offset); err != nil {
		return place{}, err
	}
	s.size += p.length
	return p, nil
}

func (s *stage) get(p place) (one staged, err error) {
	b := make([]byte, p.length) // as long as put has made it
	if _, err = s.f.ReadAt(b, p.offset); err != nil {
		return one, err
	}
	return one, gob.NewDecoder(bytes.NewReader(b)).Decode(&one)
}
