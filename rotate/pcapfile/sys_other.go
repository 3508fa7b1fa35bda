//go:build !linux

package pcapfile

import (
	"errors"
	"os"
)

func allocate(count, size int) ([][]byte, func(), error) {
	m := make([]byte, count*size)
	var bufs [][]byte
	for range count {
		bufs, m = append(bufs, m[:size:size]), m[size:]
	}
	return bufs, func() {}, nil
}

func setDirect(*os.File, bool) error { return errors.ErrUnsupported }

// writeAt writes where the file is: here nothing is written twice.
func writeAt(f *os.File, b []byte, _ int64) (int, error) { return f.Write(b) }

func writeParts(*os.File, [][]byte, int64) (int, error) { return 0, errors.ErrUnsupported }

func refusesDirect(error) bool { return false }

func preallocate(*os.File, int64) {}

func appends(*os.File) bool { return false } // as good as any other way: see writeAt

func writeBack(*os.File, span) error { return nil }

func dropCache(*os.File, span) error { return nil }
