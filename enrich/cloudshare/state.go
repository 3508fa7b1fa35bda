package cloudshare

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"time"

	"capagent/internal/disk"
	"capagent/internal/lazy"
	"capagent/internal/quote"
	"capagent/internal/safefile"
)

const (
	maxState  = 1 << 20 // bytes of the file
	forgetAge = 30 * day
)

// record is what was done to an environment, written before it is done.
type record struct {
	Snapshot string    `json:"snapshot"`      // its name, which is asked for
	Begun    time.Time `json:"begun"`         // when it was first
	Done     time.Time `json:"done,omitzero"` // when it was seen among the snapshots
	Reason   string    `json:"reason,omitempty"`
}

// state is the file's content, by environment.
type state map[string]record

var snapshotName = lazy.Regexp(`^ev-[0-9]{8}-[0-9]{6}-[0-9a-f]{6}$`)

func decodeState(data []byte) (state, error) {
	s := state{}
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, errors.New("it is not the JSON that the agent writes")
	}
	for id, r := range s {
		if !identifier().MatchString(id) || !snapshotName().MatchString(r.Snapshot) || r.Begun.IsZero() {
			return nil, errors.New("it holds what the agent does not write")
		}
	}
	return s, nil
}

// readState reads the file. A missing one is empty; one that can't be understood is an
// error, since it may name a snapshot that must not be taken twice.
func readState(path string) (state, error) {
	wrong := func(err error) (state, error) {
		return nil, fail(ClassState, fmt.Errorf("read %s: %w", quote.Path(path), safefile.Cause(err)))
	}
	f, _, err := safefile.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return state{}, nil
	}
	if err != nil {
		return wrong(err)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxState+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return wrong(err)
	}
	if len(data) > maxState {
		return wrong(errors.New("it is too long"))
	}
	s, err := decodeState(data)
	if err != nil {
		return wrong(err)
	}
	return s, nil
}

// set records r for an environment, durably; a zero record forgets it.
func (s state) set(path, id string, r record, now time.Time) (err error) {
	maps.DeleteFunc(s, func(_ string, r record) bool { return now.Sub(r.Begun) > forgetAge })
	if s[id] = r; r.Snapshot == "" {
		delete(s, id)
	}
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fail(ClassState, err)
	}
	defer func() {
		if err != nil {
			err = fail(ClassState, fmt.Errorf("write %s: %w", quote.Path(path), safefile.Cause(err)))
		}
	}()
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.part")
	if err != nil {
		return err
	}
	_, err = f.Write(append(data, '\n'))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return err
	}
	return disk.SyncDir(filepath.Dir(path))
}
