package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestLicencesAreFoundWhereverTheyLie(t *testing.T) {
	folder := t.TempDir()
	for name, text := range map[string]string{
		"LICENSE": "own\n", "NOTICE.txt": "notice\r\nof two lines", "license.go": "no", "README": "no", "licensing": "no",
		"internal/other/LICENCE.md": "other's", "COPYING": "copying", "testdata/LICENSE": "no",
	} {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for only, want := range map[bool][]string{false: {"copying", "own", "notice\nof two lines", "other's"}, true: {"copying", "own", "notice\nof two lines"}} {
		if got, err := licenceTexts(folder, only); err != nil || !slices.Equal(got, want) {
			t.Errorf("%v: %q, %v", only, got, err)
		}
	}
}
