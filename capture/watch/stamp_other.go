//go:build !linux && !darwin && !windows

package watch

import "io/fs"

func factsOf(info fs.FileInfo) facts {
	return facts{size: info.Size(), modified: info.ModTime().UnixNano()}
}
