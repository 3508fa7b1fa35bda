package cloudtrax

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"time"

	"capagent/enrich/cloudtrax/api"
	"capagent/enrich/device"
	"capagent/internal/failure"
	"capagent/internal/safefile"
)

// ClassBadState is the class of failures of a Blocker's file.
const ClassBadState = "bad_state"

// States of a block.
const (
	Intended = "intended" // it was to be ordered; whether it was is not known
	Blocked  = "blocked"
	Ended    = "ended"
)

// Block is a client that this agent blocked.
type Block struct {
	Network string     `json:"network"`
	CID     string     `json:"cid"`
	MAC     device.MAC `json:"mac"`
	Name    string     `json:"name"`
	Since   time.Time  `json:"since"`
	Until   time.Time  `json:"until"`
	Reason  string     `json:"reason"`
	State   string     `json:"state"`
}

func (one *Block) ids() (api.ID, api.CID) {
	id, _ := api.ParseID(one.Network) // check saw both
	cid, _ := api.ParseCID(one.CID)
	return id, cid
}

func (one *Block) due(now time.Time) bool { return one.State != Ended && !now.Before(one.Until) }

func (one *Block) doubtful(now time.Time) bool {
	return one.State == Intended && now.Sub(one.Since) > grace
}

// check says whether a block is one that this agent may have written.
func (one *Block) check() bool {
	_, isID := api.ParseID(one.Network)
	_, isCID := api.ParseCID(one.CID)
	return isID && isCID && !one.MAC.Multicast() && one.MAC != device.MAC{} && !one.Since.IsZero() && one.Until.Sub(one.Since) <= maxBlock &&
		slices.Contains([]string{Intended, Blocked, Ended}, one.State) && one.Name == device.Clean(one.Name) && one.Reason == device.Clean(one.Reason)
}

// state is what a Blocker's file holds.
type state struct {
	path   string
	blocks []*Block
}

const (
	maxState  = 8 << 20
	maxBlocks = 10_000
)

// stateFile is the form of the file.
type stateFile struct {
	Version int      `json:"version"`
	Blocks  []*Block `json:"blocks"`
}

func badState(path string, err error) error {
	return &failure.Error{
		Kind: failure.Pause, Class: ClassBadState, Err: fmt.Errorf("the list of blocked clients in %q: %w", path, err),
		Hint: "see in CloudTrax who is blocked; then put the file away, and the agent begins a new one",
	}
}

// loadState reads a Blocker's file; where there is none nobody was blocked. One that
// can't be understood is an error: nobody is blocked by halves.
func loadState(path string) (*state, error) {
	f, _, err := safefile.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &state{path: path}, nil
	}
	if err != nil {
		return nil, badState(path, safefile.Cause(err))
	}
	data, err := io.ReadAll(io.LimitReader(f, maxState+1))
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return nil, badState(path, safefile.Cause(err))
	}
	blocks, err := decodeState(data)
	if err != nil {
		return nil, badState(path, err)
	}
	return &state{path, blocks}, nil
}

func decodeState(data []byte) ([]*Block, error) {
	var file stateFile
	switch err := json.Unmarshal(data, &file); {
	case len(data) > maxState || err != nil || len(file.Blocks) > maxBlocks:
		return nil, errors.New("damaged")
	case file.Version != 1:
		return nil, fmt.Errorf("of version %d, which this agent does not know", file.Version)
	}
	for _, one := range file.Blocks {
		if one == nil || !one.check() {
			return nil, errors.New("damaged")
		}
	}
	return file.Blocks, nil
}

// save writes the file, without what nobody needs to know any more.
func (s *state) save() error {
	now := time.Now()
	s.blocks = slices.DeleteFunc(s.blocks, func(one *Block) bool { return one.State == Ended && now.Sub(one.Since) > time.Hour })
	data, err := json.MarshalIndent(stateFile{1, s.blocks}, "", " ")
	if err == nil {
		err = safefile.Write(s.path, append(data, '\n'))
	}
	if err != nil {
		return badState(s.path, safefile.Cause(err))
	}
	return nil
}

func (s *state) add(one Block) *Block {
	s.blocks = append(s.blocks, &one)
	return &one
}

func (s *state) drop(one *Block) {
	s.blocks = slices.DeleteFunc(s.blocks, func(o *Block) bool { return o == one })
}

// find returns the block of a client that has not ended, or nil.
func (s *state) find(m device.MAC) *Block {
	for _, one := range s.blocks {
		if one.MAC == m && one.State != Ended {
			return one
		}
	}
	return nil
}

// within counts the blocks that began lately, those that ended among them.
func (s *state) within(now time.Time, d time.Duration) int {
	n := 0
	for _, one := range s.blocks {
		if now.Sub(one.Since) < d {
			n++
		}
	}
	return n
}
