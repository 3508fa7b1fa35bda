package watch

import (
	"path"
	"path/filepath"
	"runtime"
	"strings"
)

// temporary endings are those under which well-known programs write what they
// rename when it is complete.
var temporary = []string{".part", ".tmp", ".filepart", ".crdownload", ".partial", "~"}

// captures are endings that promise a capture.
var captures = []string{".pcap", ".pcapng", ".cap", ".dmp", ".ntar"}

// hidden names are never taken and folders of such names never entered: rsync
// and others keep there what is incomplete.
func hidden(name string) bool { return strings.HasPrefix(name, ".") }

func hasEnding(name string, endings []string) bool {
	name = strings.ToLower(name)
	for _, end := range endings {
		if strings.HasSuffix(name, end) {
			return true
		}
	}
	return false
}

func looksLikeCapture(name string) bool {
	for _, wrap := range []string{".gz", ".zst"} {
		name = strings.TrimSuffix(name, wrap)
	}
	return hasEnding(name, captures)
}

// wanted reports whether a file may be taken by its name. dir is the path of its
// folder below the watched one, "" for that itself.
func (c *Config) wanted(dir, name string) bool {
	if hidden(name) || hasEnding(name, temporary) {
		return false
	}
	if len(c.Include) == 0 {
		return true
	}
	for _, pattern := range c.Include {
		subject := name
		if strings.Contains(pattern, "/") {
			subject = path.Join(filepath.ToSlash(dir), name)
		}
		if runtime.GOOS == "windows" {
			pattern, subject = strings.ToLower(pattern), strings.ToLower(subject)
		}
		if ok, _ := path.Match(pattern, subject); ok {
			return true
		}
	}
	return false
}

// below returns path as seen from root, "" for root itself. It reports false
// for what is not inside.
func below(root, path string) (string, bool) {
	if path == root {
		return "", true
	}
	if !strings.HasSuffix(root, string(filepath.Separator)) {
		root += string(filepath.Separator)
	}
	return strings.CutPrefix(path, root)
}

// join is filepath.Join for a clean dir and one name.
func join(dir, name string) string {
	if strings.HasSuffix(dir, string(filepath.Separator)) {
		return dir + name
	}
	return dir + string(filepath.Separator) + name
}
