// Package audit is the append-only log of what happened to every capture: one
// JSON line per event of the ledger, each with the SHA-256 of the line before it,
// so that nothing in it can be changed, left out or put in without a trace.
//
// The ledger records an event in the transaction of the change itself and keeps
// it until Drain has it durably in the log; it also remembers the number and the
// hash of the log's last line, so that a cut end is noticed too. The chain proves
// that the log was not changed by someone who can write the log alone. Someone
// who can write the log and the ledger can make both anew: against that a hash of
// a line has to be kept elsewhere.
package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"capagent/internal/ledger"
)

// Name is the file that is written. When it is over a size it becomes
// audit-<number of its first event, 12 digits>.log.
const Name = "audit.log"

// maxLine bounds a line with its newline, in bytes.
const maxLine = 64 << 10

const timeFormat = "2006-01-02T15:04:05.000000000Z"

// genesis is what the first line has in place of a hash.
var genesis = strings.Repeat("0", sha256.Size*2)

// Line is one line of the log.
type Line struct {
	Seq     int64           `json:"seq"`  // from 1, without gaps
	Time    string          `json:"time"` // UTC, RFC 3339 with nanoseconds
	Host    string          `json:"host"` // where the agent that wrote the line ran
	Version string          `json:"version"`
	Event   string          `json:"event"`
	Capture int64           `json:"capture,omitempty"`
	Data    json.RawMessage `json:"data"`
	Prev    string          `json:"prev"` // SHA-256 of the line before without its newline, in hex
}

// encode returns an event's line with its newline.
func encode(e ledger.Event, host, version, prev string) ([]byte, error) {
	line := Line{
		Seq: e.Seq, Time: e.Time.UTC().Format(timeFormat), Host: host, Version: version,
		Event: e.Name, Capture: e.Capture, Data: e.Data, Prev: prev,
	}
	b, err := line.bytes()
	if err != nil || len(b) > maxLine {
		// The ledger bounds its events, so only a damaged one gets here. It must
		// not keep the others out.
		line.Data = json.RawMessage(fmt.Sprintf(`{"unfit":%d,"sha256":%q}`, len(e.Data), hash(e.Data)))
		b, err = line.bytes()
	}
	return b, err
}

func (l *Line) bytes() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(l)
	return b.Bytes(), err
}

// parse reads a line without its newline. Keys that this version does not know
// are left to later ones.
func parse(raw []byte) (Line, error) {
	var l Line
	if len(raw) >= maxLine {
		return l, fmt.Errorf("longer than %d bytes", maxLine)
	}
	if err := json.Unmarshal(raw, &l); err != nil {
		return Line{}, errors.New("not JSON as the log has it")
	}
	_, err := time.Parse(timeFormat, l.Time)
	switch {
	case l.Seq < 1:
		return Line{}, errors.New("no number")
	case l.Event == "":
		return Line{}, errors.New("no event")
	case err != nil:
		return Line{}, errors.New("no time")
	case len(l.Prev) != len(genesis) || strings.Trim(l.Prev, "0123456789abcdef") != "":
		return Line{}, errors.New("no hash of the line before")
	}
	return l, nil
}

// hash names a line, given without its newline.
func hash(raw []byte) string {
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}
