//go:build unix

package disk

import (
	"errors"
	"os"
)

// SyncDir makes the names in a directory durable: what was made, renamed or
// removed there survives a power cut.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
