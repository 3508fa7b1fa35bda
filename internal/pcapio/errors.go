package pcapio

import (
	"bytes"
	"errors"
	"fmt"
)

// Sentinels for errors.Is; the typed errors below carry the details.
var (
	ErrNotCapture = errors.New("not a capture file")
	ErrTruncated  = errors.New("cut short")
	ErrFormat     = errors.New("damaged")
	ErrOverBudget = errors.New("over budget")
	ErrNoSplit    = errors.New("cannot be split")
)

// NotCaptureError says that a stream is no capture file. Seen says what it is
// instead, in words for people; text from the file is short and quoted.
type NotCaptureError struct{ Seen string }

func (e *NotCaptureError) Error() string { return ErrNotCapture.Error() + ": " + e.Seen }
func (e *NotCaptureError) Unwrap() error { return ErrNotCapture }

// TruncatedError says that the file ends inside the record that starts at byte
// Offset; Size is how many bytes there are. They are equal when compressed data
// ends early between two records.
type TruncatedError struct{ Offset, Size int64 }

func (e *TruncatedError) Error() string {
	if e.Offset == e.Size {
		return fmt.Sprintf("%v: the compressed data ends early, after %d bytes of content", ErrTruncated, e.Size)
	}
	return fmt.Sprintf("%v: ends after %d bytes, inside the record at byte %d", ErrTruncated, e.Size, e.Offset)
}
func (e *TruncatedError) Unwrap() error { return ErrTruncated }

// FormatError says that the file cannot be read any further than byte Offset (of
// the unwrapped file).
type FormatError struct {
	Offset  int64
	Problem string
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("%v at byte %d: %s", ErrFormat, e.Offset, e.Problem)
}
func (e *FormatError) Unwrap() error { return ErrFormat }

// BudgetError says that a compressed file holds more than its Budget allows.
type BudgetError struct {
	Wrapper string // "gzip" or "zstd"
	Reason  string // which bound, in words
}

func (e *BudgetError) Error() string {
	return fmt.Sprintf("%v: the %s content %s", ErrOverBudget, e.Wrapper, e.Reason)
}
func (e *BudgetError) Unwrap() error { return ErrOverBudget }

// SplitError says why a file cannot be cut into pieces within the limits.
type SplitError struct{ Reason string }

func (e *SplitError) Error() string { return ErrNoSplit.Error() + ": " + e.Reason }
func (e *SplitError) Unwrap() error { return ErrNoSplit }

// known are beginnings of files that people mistake for captures or rename.
var known = []struct{ magic, name string }{
	{"PK\x03\x04", "a ZIP archive"},
	{"BZh", "bzip2 data"},
	{"\xfd7zXZ\x00", "xz data"},
	{"\x04\x22\x4d\x18", "LZ4 data"},
	{"7z\xbc\xaf\x27\x1c", "a 7z archive"},
	{"Rar!", "a RAR archive"},
	{"\x1f\x8b", "gzip data"},
	{"\x28\xb5\x2f\xfd", "zstd data"},
	{"%PDF", "a PDF document"},
	{"<!DOCTYPE", "an HTML page"},
	{"<html", "an HTML page"},
	{"\x7fELF", "a program"},
	{"MZ", "a program"},
	{"snoop\x00\x00\x00", "a snoop capture"},
	{"RTSS", "a Network Monitor capture"},
	{"GMBU", "a Network Monitor capture"},
	{"TRSNIFF data", "a Sniffer capture"},
}

// shownBytes is how much of a foreign file an error shows.
const shownBytes = 8

// describe says in words how a stream begins that is no capture.
func describe(b []byte) string {
	switch {
	case len(b) == 0:
		return "empty file (0 bytes)"
	case isPcapMagic(b):
		return fmt.Sprintf("pcap file header cut short after %d bytes", len(b))
	case isPcapng(b):
		return fmt.Sprintf("pcapng section header cut short after %d bytes", len(b))
	}
	head := b[:min(len(b), shownBytes)]
	if len(bytes.Trim(head, "\x00")) == 0 {
		return "starts with zero bytes"
	}
	for _, k := range known {
		if bytes.HasPrefix(b, []byte(k.magic)) {
			return fmt.Sprintf("starts with %q, %s", k.magic, k.name)
		}
	}
	return fmt.Sprintf("starts with %q", head)
}
