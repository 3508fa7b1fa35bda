package api

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// forbidden are the GETs with side effects of contract 2.3.
var forbidden = []string{
	"/node/1/reboot", "/node/1/reset_encrypt_key", "/node/1/enable_pairing", "/node/1/expedite_upgrade",
	"/switch/1/reboot", "/switch/1/port/2/reset", "/switch/1/enable_pairing", "/switch/1/expedite_upgrade",
	"/powerstrip/1/reboot", "/powerstrip/1/port/2/reset", "/powerstrip/1/enable_pairing", "/powerstrip/1/expedite_upgrade",
	"/sitesurvey/network/1/scan", "/account/credential/1/embed",
}

// all returns every request that can be made with an id.
func all(id ID, cid CID) map[string]path {
	return map[string]path{
		"Networks": Networks().path, "Nodes": Nodes(id).path, "Clients": Clients(id).path, "ClientsOfDay": ClientsOfDay(id).path,
		"Switches": Switches(id).path, "Switch": Switch(id).path, "Survey": Survey(id).path, "Settings": Settings(id).path,
		"Blocked": Blocked(id).path, "Block": Block(id, cid, true).path,
	}
}

var allowed = regexp.MustCompile(`^(/network/list|/node/network/[0-9]+/list|/history/network/[0-9]+/clients\?period=(2hours|day)|` +
	`/switch/network/[0-9]+/list|/switch/[0-9]+|/sitesurvey/network/[0-9]+|/network/[0-9]+/settings|/client/network/[0-9]+/block)$`)

func TestNothingWithASideEffectCanBeAskedFor(t *testing.T) {
	cid, _ := ParseCID("abc=")
	tails := []string{"", "1", "/", "/reboot", "/scan", "?x", "%2freboot", "/../1/reboot", "\n", " ", "#", "-1", "+1", "٣", "1e3", "x"}
	for _, f := range forbidden {
		for _, prefix := range []string{"/node/", "/switch/", "/powerstrip/", "/sitesurvey/network/", "/account/credential/", "/node/network/", "/"} {
			if rest, ok := strings.CutPrefix(f, prefix); ok {
				tails = append(tails, rest)
			}
		}
	}
	for _, tail := range tails {
		for _, text := range []string{tail, "1" + tail, tail + "1"} {
			id, ok := ParseID(text)
			if ok != regexp.MustCompile(`^[0-9]{1,20}$`).MatchString(text) {
				t.Errorf("%q as an id: %v", text, ok)
			}
			for name, p := range all(id, cid) {
				for _, f := range forbidden {
					if strings.HasPrefix(p.target, f) {
						t.Errorf("%s with %q asks for %s", name, text, p.target)
					}
				}
				if p.target != "" && !allowed.MatchString(p.target) {
					t.Errorf("%s with %q asks for %s, which is not on the list", name, text, p.target)
				}
			}
		}
	}
	for name, p := range all(ID{}, cid) {
		if (p.target != "") != (name == "Networks") {
			t.Errorf("%s without an id asks for %s", name, p.target)
		}
	}
	for _, text := range []string{"", "a/b", "a b", "a\n", `a"`, strings.Repeat("a", 129)} {
		if _, ok := ParseCID(text); ok {
			t.Errorf("%q is taken for a client's id", text)
		}
	}
}

// TestOnlyPathsMakesPaths holds that the other files of this package make no path,
// and that all() above knows every function that does.
func TestOnlyPathsMakesPaths(t *testing.T) {
	names, err := filepath.Glob("*.go")
	if err != nil || len(names) < 5 {
		t.Fatal(names, err)
	}
	known := all(ID{}, CID{})
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CompositeLit:
				if id, ok := n.Type.(*ast.Ident); ok && name != "paths.go" && (id.Name == "path" || id.Name == "Read" || id.Name == "Action") {
					t.Errorf("%s makes a %s", name, id.Name)
				}
			case *ast.SelectorExpr:
				if n.Sel.Name == "target" && name != "paths.go" && name != "api.go" {
					t.Errorf("%s touches a target", name)
				}
			case *ast.AssignStmt:
				for _, to := range n.Lhs {
					if s, ok := to.(*ast.SelectorExpr); ok && s.Sel.Name == "target" {
						t.Errorf("%s sets a target", name)
					}
				}
			case *ast.FuncDecl:
				if n.Name.IsExported() && n.Recv == nil && n.Type.Results != nil && name == "paths.go" {
					if id, ok := n.Type.Results.List[0].Type.(*ast.Ident); ok && (id.Name == "Read" || id.Name == "Action") {
						if _, ok := known[n.Name.Name]; !ok {
							t.Errorf("%s is not tested", n.Name.Name)
						}
					}
				}
			case *ast.BasicLit:
				text, _ := strconv.Unquote(n.Value)
				for _, word := range []string{"reboot", "reset", "pairing", "upgrade", "scan", "embed", "powerstrip", "credential/", "http://", "https://"} {
					if n.Kind == token.STRING && name == "paths.go" && strings.Contains(text, word) {
						t.Errorf("%s says %s", name, n.Value)
					}
				}
			}
			return true
		})
	}
}
