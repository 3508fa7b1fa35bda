//go:build !linux && !windows

package retention

import "errors"

// renameNew is not to be had here: os.Rename always replaces.
func renameNew(_, _ *place) error { return errors.ErrUnsupported }
