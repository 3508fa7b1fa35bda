//go:build !linux && !darwin && !windows

package disk

import (
	"errors"
	"os"
)

func statfs(string) (free, total, inodesFree uint64, err error) {
	return 0, 0, 0, errors.ErrUnsupported
}

func allocate(*os.File, int64) error { return errors.ErrUnsupported }
