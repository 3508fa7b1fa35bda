package rotate

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"capagent/internal/pcapio"
)

// Part ends the name of a file that is still being written.
const Part = ".part"

const (
	nameTime = "20060102T150405.000000Z"
	longName = 64 // bytes of a source in a file's name
)

// fileName is the name of a file of source whose first packet came at t:
// "eth0_20261122T031500.123456Z_000042.pcapng". Those of one source sort in the
// order of time, and by number where that is the same.
func fileName(source string, t time.Time, number uint64, format pcapio.Format) string {
	return fmt.Sprintf("%s_%s_%06d.%s", source, t.UTC().Format(nameTime), number, format)
}

var nameEnd = regexp.MustCompile(`_\d{8}T\d{6}\.\d{6}Z_\d{6,}\.(pcapng|pcap)$`)

// isPart reports whether name is that of a file that a Rotator has not sealed.
func isPart(name string) bool {
	sealed, part := strings.CutSuffix(name, Part)
	return part && nameEnd.MatchString(sealed)
}

// safe makes a source's name, which is an interface's and so may hold anything,
// fit for a file's name on every system.
func safe(source string) string {
	s := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_', r == '.':
			return r
		default:
			return '-'
		}
	}, source[:min(len(source), longName)])
	s = strings.TrimLeft(s, ".-")
	if s == "" {
		return "capture"
	}
	return s
}
