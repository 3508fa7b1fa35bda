package filter

import (
	"os"
	"path/filepath"
)

// etcPath is where the system keeps one of its files of names. The one of
// protocols has another name.
func etcPath(name string) string {
	if name == "protocols" {
		name = "protocol"
	}
	root := os.Getenv("SystemRoot")
	if root == "" {
		root = `C:\Windows`
	}
	return filepath.Join(root, "System32", "drivers", "etc", name)
}
