package cado

import (
	"bytes"
	"fmt"
	"time"
)

// Line is one event for the platform's timeline.
type Line struct {
	Time time.Time
	Text string
}

// Limits of a sidecar log.
const (
	maxLines = 5000
	maxLine  = 500 // bytes of a text
)

// Log writes lines in the form that the platform surely parses: "YYYY-MM-DD
// HH:MM:SS message" (contracts/cado.md 5.4), in UTC. Texts are from packets: each
// stays on its line. A line without a time has that of the line before it. Of too
// many lines the last one says how many are missing.
func Log(lines []Line) []byte {
	var out bytes.Buffer
	var at time.Time
	for i, l := range lines {
		if !l.Time.IsZero() {
			at = l.Time.UTC()
		}
		if at.Year() < 1970 || at.Year() > 9999 {
			at = time.Unix(0, 0).UTC()
		}
		text := line(l.Text, maxLine)
		if i == maxLines-1 && len(lines) > maxLines {
			text = fmt.Sprintf("%d more events are not listed here", len(lines)-i)
		}
		if text == "" {
			continue
		}
		fmt.Fprintf(&out, "%s %s\n", at.Format(time.DateTime), text)
		if i == maxLines-1 {
			break
		}
	}
	return out.Bytes()
}
