// Package disk asks file systems for room, keeps a little of it in reserve, and
// makes names durable.
package disk

import (
	"fmt"
	"math"
)

// Unknown is the number of free inodes of a file system that doesn't count them.
const Unknown uint64 = math.MaxUint64

// Free returns how many bytes this user may still write to the file system that
// holds path, how many it has altogether, and how many files may still be made,
// Unknown where there is no such limit. The path must exist.
func Free(path string) (free, total, inodesFree uint64, err error) {
	free, total, inodesFree, err = statfs(path)
	if err != nil {
		return 0, 0, 0, fmt.Errorf("free space of %q: %w", path, err)
	}
	return free, total, inodesFree, nil
}
