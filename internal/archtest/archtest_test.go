// Package archtest holds the shape of the project: which package may import
// which (docs/architecture.md).
package archtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "capagent/"

// gopacketAllowed are the only packages that may import google/gopacket, with
// the reason: its decoders are unmaintained and must be kept behind few doors.
var gopacketAllowed = map[string]string{
	"capture/npcap":              "Npcap's wpcap.dll without a C compiler; packets are taken as bytes, none is decoded",
	"capture/bsd":                "the packet filter device of macOS and the BSDs; packets are taken as bytes",
	"internal/tools/gencaptures": "writes the example captures; never part of the agent",
}

// leaves import nothing of ours.
var leaves = []string{
	"internal/ledger", "internal/pcapio", "internal/failure", "internal/safefile", "internal/sums",
	"internal/quote", "internal/secret", "internal/paths", "internal/disk", "internal/logs", "internal/packet",
}

// layers from the bottom up. A package may import its own layer's subpackages
// (where its layer is one of the four: only its own) and every layer below.
func layer(pkg string) int {
	switch top, _, _ := strings.Cut(pkg, "/"); top {
	case "internal":
		return 0
	case "capture", "rotate", "upload", "enrich":
		return 1
	case "service":
		return 2
	case "cmd":
		return 3
	default:
		return -1
	}
}

// violation returns what is wrong with from importing to, or "". Both are
// paths below the module.
func violation(from, to string) string {
	fromTop, _, _ := strings.Cut(from, "/")
	toTop, _, _ := strings.Cut(to, "/")
	switch {
	case slices.Contains(leaves, from):
		return "a leaf imports nothing of ours"
	case strings.HasPrefix(from, "internal/tools/"), strings.HasPrefix(from, "internal/archtest"):
		return "" // programs for developers: they stand above everything
	case strings.HasPrefix(to, "internal/tools/"):
		return "tools are not for importing"
	case layer(to) > layer(from):
		return "imports point down: cmd → service → {capture, rotate, upload, enrich} → internal"
	case layer(from) == 1 && layer(to) == 1 && fromTop != toTop:
		return "capture, rotate, upload and enrich never import each other"
	default:
		return ""
	}
}

type pkg struct {
	ImportPath string
	Imports    []string
}

func list(t *testing.T) []pkg {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("needs go")
	}
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", module+"...").Output()
	if err != nil {
		t.Fatal(err)
	}
	var pkgs []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
}

func TestImportsPointDown(t *testing.T) {
	pkgs := list(t)
	if len(pkgs) < 10 {
		t.Fatalf("go list found %d packages only", len(pkgs))
	}
	for _, p := range pkgs {
		from := strings.TrimPrefix(p.ImportPath, module)
		if layer(from) < 0 {
			t.Errorf("%s: not one of the fixed top-level folders", from)
		}
		for _, imp := range p.Imports {
			if to, ours := strings.CutPrefix(imp, module); ours {
				if v := violation(from, to); v != "" {
					t.Errorf("%s imports %s: %s", from, to, v)
				}
			}
			if strings.HasPrefix(imp, "github.com/google/gopacket") && gopacketAllowed[from] == "" {
				t.Errorf("%s imports %s: only %v may", from, imp, gopacketAllowed)
			}
			if (imp == "html/template" || imp == "text/template") && !strings.HasPrefix(from, "internal/tools/") {
				t.Errorf("%s imports %s: with it the linker keeps every method of every type, 8 MB; use internal/markup", from, imp)
			}
		}
	}
}

func TestViolationsAreSeen(t *testing.T) {
	for _, tc := range []struct {
		from, to string
		bad      bool
	}{
		{"cmd/capagent", "service", false},
		{"service", "upload", false},
		{"upload", "internal/ledger", false},
		{"upload/cloudsharktest", "internal/pcapio", false},
		{"rotate/pcapfile", "capture", true},
		{"service/capturing", "rotate/pcapfile", false},
		{"service/imports", "service", false},
		{"upload", "enrich", true},
		{"enrich/threatconnect", "upload", true},
		{"upload", "service", true},
		{"internal/httpx", "upload", true},
		{"internal/ledger", "internal/pcapio", true},
		{"internal/inspect", "internal/pcapio", false},
		{"service", "cmd/capagent", true},
		{"service", "internal/tools/gencaptures", true},
	} {
		if got := violation(tc.from, tc.to); (got != "") != tc.bad {
			t.Errorf("violation(%s, %s) = %q", tc.from, tc.to, got)
		}
	}
}
