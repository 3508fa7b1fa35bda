package cado

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"path"
	"slices"
	"time"
)

// Content is an open file.
type Content interface {
	io.ReaderAt
	io.Closer
}

// Evidence is a capture that is to be imported. The last part of its key is the
// name that it has on the platform, and that it is known by after a crash: it must
// be the same whenever the capture is asked for, and no other capture's.
type Evidence struct {
	Name    string // for people
	Size    int64
	SHA256  [sha256.Size]byte
	Open    func() (Content, error)
	Project string // name
	Key     string // in the bucket
	Lines   []Line // become the sidecar log; none: there is no log
}

func (e *Evidence) check() error {
	switch {
	case e.Open == nil || e.Size < 0:
		return errors.New("there is no file")
	case e.Key == "" || len(e.Key) > maxObjectKey-len(".01234567.log") || path.Clean("/"+e.Key) != "/"+e.Key:
		return errors.New("its key is not usable")
	case e.Project == "":
		return errors.New("it belongs to no project")
	}
	return nil
}

// logKey is where the sidecar log goes. What it says may be another thing after a
// crash, so that its content is part of the name: no log is in another's way.
func (e *Evidence) logKey(log []byte) string {
	sum := sha256.Sum256(log)
	return e.Key + "." + hex.EncodeToString(sum[:4]) + ".log"
}

// Stored is a state of evidence: the platform has it. Whether it could read
// anything in it is not known.
const Stored State = "stored"

// Progress is how far an import has come. It is the caller's to keep: whatever it
// says was saved before the step that follows it.
type Progress struct {
	Project Project `json:"project,omitzero"`
	Capture Item    `json:"capture"`
	Log     Item    `json:"log,omitzero"`

	// State is "" until all pipelines have ended: stored, failed or cancelled.
	State State     `json:"state,omitempty"`
	Text  string    `json:"text,omitempty"` // the outcome, with the platform's own words on a failure
	Link  string    `json:"link,omitempty"`
	Began time.Time `json:"began,omitzero"`
	Ended time.Time `json:"ended,omitzero"`
}

// Item is how far one file has come.
type Item struct {
	Key     string    `json:"key,omitempty"`
	Upload  string    `json:"upload,omitempty"` // that is under way
	Stored  bool      `json:"stored,omitempty"` // the store has it
	Existed bool      `json:"existed,omitempty"`
	Asked   time.Time `json:"asked,omitzero"` // the import was about to be asked for
	// Pipeline imports it, Processing is what the platform began after that.
	Pipeline   string    `json:"pipeline,omitempty"`
	Processing string    `json:"processing,omitempty"`
	Imported   time.Time `json:"imported,omitzero"` // Pipeline was seen to have ended well
	State      State     `json:"state,omitempty"`
	Text       string    `json:"text,omitempty"`
	Past       []string  `json:"past,omitempty"` // pipelines of attempts that a person wants repeated
}

func (i *Item) over() bool { return i.State == Stored || i.State == Failed || i.State == Cancelled }

// Again returns the progress from which a failed import is done once more. The
// pipelines that failed are not taken for new ones.
func (p Progress) Again() Progress {
	for _, i := range []*Item{&p.Capture, &p.Log} {
		if i.State != Failed && i.State != Cancelled {
			continue
		}
		past := slices.Clone(i.Past)
		for _, id := range []string{i.Pipeline, i.Processing} {
			if id != "" {
				past = append(past, id)
			}
		}
		*i = Item{Key: i.Key, Past: past}
	}
	p.State, p.Text, p.Ended = "", "", time.Time{}
	return p
}
