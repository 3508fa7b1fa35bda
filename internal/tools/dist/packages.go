package main

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// nfpmArch are the names that nfpm has for what Go and we call otherwise.
var nfpmArch = map[string]string{"armv7": "arm7"}

// packages lays a tree out as packaging/nfpm/nfpm.yaml expects it, and makes the
// packages of it.
func (b *builder) packages(p platform, files []file) error {
	tree := filepath.Join(b.work, "tree-"+p.arch)
	for _, f := range files {
		if strings.HasPrefix(f.name, "man/") || f.name == "CHANGELOG.md" {
			text, err := zipped(f.text)
			if err != nil {
				return err
			}
			f.name, f.text = f.name+".gz", text
		}
		if err := b.place(tree, f); err != nil {
			return err
		}
	}
	for _, folder := range []string{"nfpm", "scripts"} {
		if err := b.copyTree(tree, filepath.Join("packaging", folder), folder); err != nil {
			return err
		}
	}
	arch := p.arch
	if other, ok := nfpmArch[arch]; ok {
		arch = other
	}
	nfpm, err := filepath.Abs(b.nfpm)
	if err != nil {
		return err
	}
	out, err := filepath.Abs(b.out)
	if err != nil {
		return err
	}
	for _, kind := range []string{"deb", "rpm", "apk"} {
		cmd := exec.CommandContext(b.ctx, nfpm, "package", "--config", "nfpm/nfpm.yaml", "--packager", kind, "--target", out+"/")
		cmd.Dir = tree
		cmd.Env = append(os.Environ(), "ARCH="+arch, "VERSION="+b.versionFor(kind), "SOURCE_DATE_EPOCH="+strconv.FormatInt(b.made.Unix(), 10))
		if err := b.do(cmd); err != nil {
			return err
		}
	}
	return nil
}

// versionFor is the version as a kind of package can have it. Alpine knows few
// words for what comes before a release, and none of them is ours.
func (b *builder) versionFor(kind string) string {
	base, _, before := strings.Cut(b.version, "-")
	if kind != "apk" || !before {
		return b.version
	}
	return fmt.Sprintf("%s-pre%s", base, b.made.Format("20060102150405"))
}

func (b *builder) copyTree(tree, from, to string) error {
	return filepath.WalkDir(from, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, name)
		if err != nil {
			return err
		}
		return b.place(tree, file{filepath.ToSlash(filepath.Join(to, rel)), text, 0o644})
	})
}

// place writes a file with mode and time as they shall be in the package,
// whatever the umask.
func (b *builder) place(tree string, f file) error {
	to := filepath.Join(tree, filepath.FromSlash(f.name))
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(to, f.text, f.mode); err != nil {
		return err
	}
	if err := os.Chmod(to, f.mode); err != nil {
		return err
	}
	return os.Chtimes(to, b.made, b.made)
}
