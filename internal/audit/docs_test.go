package audit

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestTheLogIsCheckedByHand runs what docs/evidence.md shows, which is also another
// implementation of the chain.
func TestTheLogIsCheckedByHand(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "evidence.md"))
	ok(t, err)
	python := regexp.MustCompile("(?s)```python\n(.*?)```").FindSubmatch(text)
	shell := regexp.MustCompile("(?s)```text\n(cat audit.*?)```").FindSubmatch(text)
	if python == nil || shell == nil {
		t.Fatal("the page does not show it")
	}
	for _, tt := range []struct {
		needs []string
		args  []string
	}{
		{[]string{"python3"}, []string{"python3", "-c", string(python[1])}},
		{[]string{"jq", "sha256sum"}, []string{"sh", "-c", string(shell[1])}},
	} {
		t.Run(tt.args[0], func(t *testing.T) {
			for _, program := range tt.needs {
				if _, err := exec.LookPath(program); err != nil {
					t.Skip(err)
				}
			}
			files, k := fixture(t)
			dir := t.TempDir()
			run := func() string {
				for i, name := range fixtureNames {
					ok(t, os.WriteFile(filepath.Join(dir, name), files[i], 0o600))
				}
				cmd := exec.Command(tt.args[0], tt.args[1:]...)
				cmd.Dir = dir
				out, _ := cmd.CombinedOutput() // a broken chain may be an error
				return string(out)
			}
			if got := run(); got != k.head+"\n" {
				t.Errorf("%q", got)
			}
			files[0] = []byte(strings.Replace(string(files[0]), "IR-1", "IR-2", 1))
			if got := run(); !strings.Contains(got, "does not follow the line before it") {
				t.Errorf("%q", got)
			}
		})
	}
}
