package main

import (
	"bytes"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// licences is the file that holds what those ask for whose code is in the program.
const licences = "THIRD-PARTY-LICENSES.txt"

var licenceFile = regexp.MustCompile(`(?i)^(licen[cs]es?|copying|notice|patents)([.-].*)?$`)

// licencesOf returns the licences of all modules in the program file, and Go's own. A
// text that several have is there once. It is an error when a module has none.
func (b *builder) licencesOf(p platform, program string) ([]byte, error) {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return nil, err
	}
	folders, root, err := b.moduleFolders(p)
	if err != nil {
		return nil, err
	}
	type source struct{ name, folder string }
	sources := []source{{"Go (" + info.GoVersion + ")", root}}
	for _, m := range info.Deps {
		sources = append(sources, source{m.Path + " " + m.Version, folders[m.Path]})
	}
	var order []string
	users := map[string][]string{}
	for _, s := range sources {
		texts, err := licenceTexts(s.folder, s.folder == root)
		if err != nil || len(texts) == 0 {
			return nil, fmt.Errorf("%s: no licence is found in %q: %w", s.name, s.folder, errors.Join(err, fs.ErrNotExist))
		}
		for _, text := range texts {
			if users[text] == nil {
				order = append(order, text)
			}
			users[text] = append(users[text], s.name)
		}
	}
	var out bytes.Buffer
	fmt.Fprintln(&out, "capagent contains the following, under the terms that stand below each.")
	for _, text := range order {
		fmt.Fprintf(&out, "\n%s\n%s\n\n%s\n", strings.Repeat("=", 72), strings.Join(users[text], "\n"), text)
	}
	return out.Bytes(), nil
}

// moduleFolders returns where the source of each module lies that p's program is made of,
// and where Go lies.
func (b *builder) moduleFolders(p platform) (folders map[string]string, goRoot string, err error) {
	cmd := exec.CommandContext(b.ctx, "go", "list", "-deps", "-f", "{{with .Module}}{{.Path}}\t{{.Dir}}{{end}}", "./cmd/capagent")
	cmd.Env = append(os.Environ(), p.env()...)
	text, err := cmd.Output()
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", cmd, err)
	}
	folders = map[string]string{}
	for line := range strings.Lines(string(text)) {
		if name, dir, ok := strings.Cut(strings.TrimSpace(line), "\t"); ok {
			folders[name] = dir
		}
	}
	root, err := exec.CommandContext(b.ctx, "go", "env", "GOROOT").Output()
	return folders, strings.TrimSpace(string(root)), err
}

// licenceTexts reads the licences in a folder and, unless only there, below it: parts
// that came from elsewhere have their own.
func licenceTexts(folder string, only bool) ([]string, error) {
	var all []string
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			if path != folder && (only || d.Name() == "testdata") {
				return fs.SkipDir
			}
			return nil
		case !licenceFile.MatchString(d.Name()) || strings.HasSuffix(d.Name(), ".go"):
			return nil
		}
		text, err := os.ReadFile(path)
		all = append(all, strings.TrimSpace(strings.ReplaceAll(string(text), "\r\n", "\n")))
		return err
	})
	return all, err
}
