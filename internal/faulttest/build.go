//go:build linux

package faulttest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Patch is a change of one place in the source, to build a program that is
// known to be wrong: a harness that does not notice it shows nothing.
type Patch struct {
	File string // below the module, "service/spool.go"
	Old  string // must be there exactly once
	New  string
}

// Build compiles capagent into dir, with patches applied to the sources that the
// compiler sees (the tree itself stays as it is), and returns the program's path.
func Build(ctx context.Context, dir string, patches ...Patch) (string, error) {
	root, err := moduleRoot(ctx)
	if err != nil {
		return "", err
	}
	args := []string{"build", "-o", filepath.Join(dir, "capagent")}
	if len(patches) > 0 {
		overlay, err := writeOverlay(root, dir, patches)
		if err != nil {
			return "", err
		}
		args = append(args, "-overlay", overlay)
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "./cmd/capagent")...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build capagent: %w\n%s", err, out)
	}
	return filepath.Join(dir, "capagent"), nil
}

func moduleRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	return filepath.Dir(strings.TrimSpace(string(out))), nil
}

// writeOverlay writes the patched files and the list that `go build -overlay`
// takes, and returns the list's path.
func writeOverlay(root, dir string, patches []Patch) (string, error) {
	changed := map[string][]byte{}
	for _, p := range patches {
		path := filepath.Join(root, filepath.FromSlash(p.File))
		text, ok := changed[path]
		if !ok {
			var err error
			if text, err = os.ReadFile(path); err != nil {
				return "", err
			}
		}
		if n := bytes.Count(text, []byte(p.Old)); n != 1 {
			return "", fmt.Errorf("patch %s: %q is there %d times, want once", p.File, p.Old, n)
		}
		changed[path] = bytes.Replace(text, []byte(p.Old), []byte(p.New), 1)
	}
	var list struct{ Replace map[string]string }
	list.Replace = map[string]string{}
	for path, text := range changed {
		name := filepath.Join(dir, fmt.Sprintf("patched%d.go", len(list.Replace)))
		if err := os.WriteFile(name, text, 0o600); err != nil {
			return "", err
		}
		list.Replace[path] = name
	}
	data, err := json.Marshal(list)
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, data, 0o600)
}
