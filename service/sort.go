package service

import (
	"errors"
	"io"
	"path/filepath"
	"strings"

	"capagent/internal/ledger"
	"capagent/internal/pcapio"
)

// Unreadable is said of a file that the system refused to read. The ledger does
// not hold it.
const Unreadable ledger.State = "unreadable"

// EmptyReason is what a capture file without a packet is recorded with.
const EmptyReason = "no packets: nothing to upload"

// Sort says where a capture of known content belongs.
func Sort(i ledger.Inspection) (state ledger.State, reason string) {
	if i.Packets == 0 {
		return ledger.Done, EmptyReason
	}
	return ledger.Queued, ""
}

// Unfit says that an inspection failed for what the file holds, not for the way
// there: it is to be quarantined.
func Unfit(err error) bool {
	return errors.Is(err, pcapio.ErrNotCapture) || errors.Is(err, pcapio.ErrOverBudget)
}

// IsCapture says by the first bytes whether r holds a capture, wrapped or not.
// What can't be read counts as one, so that reading it in full tells why.
func IsCapture(r io.Reader) bool {
	payload, err := pcapio.Unwrap(r, pcapio.DefaultBudget())
	if err == nil {
		defer func() { _ = payload.Close() }()
		_, err = pcapio.NewReader(payload)
	}
	return !errors.Is(err, pcapio.ErrNotCapture)
}

// LooksLikeCapture says that a name promises a capture, so that content which
// is none deserves a word.
func LooksLikeCapture(name string) bool {
	name = strings.ToLower(filepath.Base(name))
	for _, wrap := range []string{".gz", ".zst", ".gzip", ".zstd"} {
		name = strings.TrimSuffix(name, wrap)
	}
	switch filepath.Ext(name) {
	case ".pcap", ".pcapng", ".cap", ".dmp", ".ntar", ".pcapgz":
		return true
	}
	return strings.Contains(name, ".pcap") // rotated: x.pcap1, x.pcap.20260102
}
