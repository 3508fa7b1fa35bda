package sbom

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestAProgramsParts(t *testing.T) {
	made := time.Unix(1_800_000_000, 0)
	text, err := Of(os.Args[0], "capagent", "1.2.3", made)
	if err != nil {
		t.Fatal(err)
	}
	var d document
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil {
		t.Fatal(err)
	}
	if d.Format != "CycloneDX" || d.Metadata.Component.Version != "1.2.3" || d.Metadata.Timestamp != "2027-01-15T08:00:00Z" {
		t.Errorf("%+v", d)
	}
	std := "pkg:golang/std@" + strings.ReplaceAll(strings.TrimPrefix(runtime.Version(), "go"), " ", "+")
	if !slices.ContainsFunc(d.Components, func(c component) bool { return c.URL == std }) {
		t.Errorf("no %s in %+v", std, d.Components)
	}
	if !slices.Contains(d.Dependencies[0].DependsOn, std) || d.Dependencies[0].Ref != d.Metadata.Component.Ref {
		t.Errorf("dependencies: %+v", d.Dependencies)
	}
	if again, _ := Of(os.Args[0], "capagent", "1.2.3", made); !bytes.Equal(text, again) {
		t.Error("not the same again")
	}
}

func TestPackageURLs(t *testing.T) {
	for path, want := range map[string]string{
		"golang.org/x/sys":            "pkg:golang/golang.org/x/sys@v1.0.0",
		"github.com/BurntSushi/toml":  "pkg:golang/github.com/burntsushi/toml@v1.0.0",
		"example.com/a b/v2":          "pkg:golang/example.com/a%20b/v2@v1.0.0",
		"github.com/coreos/go-oidc/x": "pkg:golang/github.com/coreos/go-oidc/x@v1.0.0",
	} {
		if got := golang(path, "v1.0.0"); got != want {
			t.Errorf("%s: %s, not %s", path, got, want)
		}
	}
	if got := golang("m", "v1+incompatible"); got != "pkg:golang/m@v1%2Bincompatible" {
		t.Error(got)
	}
}

func TestAFileThatIsNoProgram(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(file, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Of(file, "x", "1", time.Time{}); err == nil {
		t.Error("no error")
	}
}
