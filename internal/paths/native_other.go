//go:build !windows

package paths

import "os"

func isSystem() bool { return os.Geteuid() == 0 }
