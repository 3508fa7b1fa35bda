// Package instance sees to it that one agent at a time runs on a state directory,
// and tells whether the last one ended by itself.
package instance

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"capagent/internal/disk"
)

// Holder is an agent that runs, or ran, on a state directory. Its fields are zero
// when they can't be read.
type Holder struct {
	PID   int
	Since time.Time
}

// Instance is this process's hold on a state directory. It ends with Release, or
// with the process, however that ends.
type Instance struct {
	file    *os.File
	last    Holder
	unclean bool
}

// TakenError says that another agent runs on the state directory.
type TakenError struct {
	Holder
	StateDir string
}

func (e *TakenError) Error() string {
	text := fmt.Sprintf("another agent runs on state directory %q", e.StateDir)
	if e.PID > 0 {
		text += fmt.Sprintf(": process %d", e.PID)
	}
	if !e.Since.IsZero() {
		text += ", since " + e.Since.UTC().Format(time.RFC3339)
	}
	return text
}

// Lock takes hold of a state directory, which is made if there is none. It does
// not wait: when another agent has it the error is a *TakenError.
//
// The lock of the file decides, never what it says: "<pid> <start>" is for
// people, and stays behind when its process doesn't Release.
func Lock(stateDir string, now time.Time) (*Instance, error) {
	i, err := lock(stateDir, now)
	var taken *TakenError
	if err != nil && !errors.As(err, &taken) {
		return nil, fmt.Errorf("lock state directory %q: %w", stateDir, err)
	}
	return i, err
}

func lock(stateDir string, now time.Time) (i *Instance, err error) {
	if err := os.MkdirAll(stateDir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(stateDir, "agent.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = f.Close() // nothing was written that counts
		}
	}()
	free, err := tryLock(f)
	if err != nil {
		return nil, err
	}
	said, err := io.ReadAll(io.LimitReader(f, maxContent))
	if err != nil {
		return nil, err
	}
	if !free {
		return nil, &TakenError{Holder: parse(string(said)), StateDir: stateDir}
	}
	i = &Instance{file: f, unclean: strings.TrimSpace(string(said)) != "", last: parse(string(said))}
	// The lock is what counts. A full disk must not keep the agent, which makes
	// room, from starting.
	_ = i.write(fmt.Sprintf("%d %s", os.Getpid(), now.UTC().Format(time.RFC3339)))
	_ = disk.SyncDir(stateDir)
	return i, nil
}

// maxContent bounds what is read of a lock file that may hold anything, and is
// the length of what is written: always in the same place, so that it needs room
// on the disk only once.
const maxContent = 48

// parse returns what can be read of "<pid> <start>".
func parse(said string) Holder {
	var h Holder
	pid, since, _ := strings.Cut(strings.TrimSpace(said), " ")
	if n, err := strconv.Atoi(pid); err == nil && n > 0 {
		h.PID = n
		h.Since, _ = time.Parse(time.RFC3339, since) // zero when it is none
	}
	return h
}

// write makes content what the file says, durably.
func (i *Instance) write(content string) error {
	if _, err := i.file.WriteAt(fmt.Appendf(nil, "%-*s\n", maxContent-1, content), 0); err != nil {
		return err
	}
	return errors.Join(i.file.Truncate(maxContent), i.file.Sync())
}

// Unclean says whether the last agent on this directory ended without Release, by
// a crash, a kill or a power cut, and which one it was.
func (i *Instance) Unclean() (last Holder, unclean bool) { return i.last, i.unclean }

// Release ends the hold and notes that it ended well. The file stays: removing
// it would let two agents hold two files of one name.
func (i *Instance) Release() error {
	if err := errors.Join(i.write(""), i.file.Close()); err != nil {
		return fmt.Errorf("release the state directory: %w", err)
	}
	return nil
}
