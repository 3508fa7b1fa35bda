package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"

	"capagent/internal/tools/gendocs"
	"capagent/internal/tools/sbom"
)

type builder struct {
	ctx       context.Context
	out, work string
	version   string
	made      time.Time

	native string            // a program that runs here, to be asked
	nfpm   string            // the packager
	common []file            // what every archive and package has
	manual []gendocs.Page    // uncompressed
	shells map[string][]byte // completions by shell
}

// prepare makes what does not depend on the platform.
func (b *builder) prepare() (err error) {
	here := platform{runtime.GOOS, runtime.GOARCH}
	b.native = filepath.Join(b.work, "native", here.program())
	if err := b.compile(here, b.native); err != nil {
		return err
	}
	var said struct{ Version string }
	text, err := b.ask("version", "--json")
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &said); err != nil || said.Version == "" {
		return fmt.Errorf("capagent version --json says %q: %w", text, err)
	}
	b.version = said.Version
	exits, err := exitCodes("docs/commands.md")
	if err != nil {
		return err
	}
	if b.manual, err = gendocs.Pages(gendocs.Ask(b.ctx, b.native), gendocs.About{
		Program: "capagent", Short: "Packet captures to CloudShark", Version: b.version,
		Date: b.made.Format(time.DateOnly), Exits: exits,
	}); err != nil {
		return err
	}
	b.shells = map[string][]byte{}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if b.shells[shell], err = b.ask("completion", shell); err != nil {
			return err
		}
	}
	if b.common, err = texts(); err != nil {
		return err
	}
	b.nfpm = filepath.Join(b.work, "nfpm")
	return b.do(b.goBuild(nil, "-modfile=tools/go.mod", "-o", b.nfpm, "github.com/goreleaser/nfpm/v2/cmd/nfpm"))
}

// texts are the files that are the same everywhere.
func texts() ([]file, error) {
	var all []file
	add := func(from, to string) error {
		text, err := os.ReadFile(from)
		all = append(all, file{to, text, 0o644})
		return err
	}
	for _, name := range []string{"LICENSE", "README.md", "CHANGELOG.md", "agent.toml.example"} {
		if err := add(name, name); err != nil {
			return nil, err
		}
	}
	docs, err := fs.Glob(os.DirFS("docs"), "*")
	if err != nil {
		return nil, err
	}
	for _, name := range docs {
		if err := add(filepath.Join("docs", name), path.Join("docs", name)); err != nil {
			return nil, err
		}
	}
	return all, nil
}

var exitRow = regexp.MustCompile(`(?m)^\| (\d+) \| (.*) \|$`)

// exitCodes reads the table that users read.
func exitCodes(page string) ([]gendocs.Exit, error) {
	text, err := os.ReadFile(page)
	if err != nil {
		return nil, err
	}
	var all []gendocs.Exit
	for _, m := range exitRow.FindAllSubmatch(text, -1) {
		all = append(all, gendocs.Exit{Code: string(m[1]), Meaning: strings.ReplaceAll(string(m[2]), "`", "")})
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s has no table of exit codes", page)
	}
	return all, nil
}

// platform builds the program, its archive, and its packages or its installer.
func (b *builder) platform(p platform) error {
	program := filepath.Join(b.work, p.os+"-"+p.arch, p.program())
	if err := b.compile(p, program); err != nil {
		return err
	}
	if p.os == "windows" {
		if err := b.sign(program); err != nil {
			return err
		}
	}
	parts, err := sbom.Of(program, "capagent", b.version, b.made)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("capagent_%s_%s_%s", b.version, p.os, p.arch)
	if err := os.WriteFile(filepath.Join(b.out, name+".cdx.json"), parts, 0o644); err != nil {
		return err
	}
	text, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	fmt.Printf("%-16s %5.1f MB\n", p.os+"/"+p.arch, float64(len(text))/1e6)
	if err := checkSize(len(text)); err != nil {
		return err
	}
	terms, err := b.licencesOf(p, program)
	if err != nil {
		return err
	}
	files := append([]file{{p.program(), text, 0o755}, {"capagent.cdx.json", parts, 0o644}, {licences, terms, 0o644}}, b.common...)
	files, err = b.extras(p, files)
	if err != nil {
		return err
	}
	if err := b.archive(p, name, files); err != nil {
		return err
	}
	switch p.os {
	case "linux":
		return b.packages(p, files)
	case "windows":
		return b.msi(p, name, files)
	}
	return nil
}

// maxProgram is promised to users (docs/install.md), in bytes.
const maxProgram = 35_000_000

func checkSize(size int) error {
	if size > maxProgram {
		return fmt.Errorf("the program has %d bytes, more than the %d that are promised; `go tool nm -size -sort size` on a build without -s tells what takes them", size, maxProgram)
	}
	return nil
}

// extras adds what only some systems have a use for.
func (b *builder) extras(p platform, files []file) ([]file, error) {
	if p.os == "windows" {
		return append(files, file{"completions/capagent.ps1", b.shells["powershell"], 0o644}), nil
	}
	files = append(files,
		file{"completions/capagent.bash", b.shells["bash"], 0o644},
		file{"completions/_capagent", b.shells["zsh"], 0o644},
		file{"completions/capagent.fish", b.shells["fish"], 0o644})
	for _, m := range b.manual {
		files = append(files, file{"man/" + m.Name, []byte(m.Text), 0o644})
	}
	folders := map[string][]string{"linux": {"systemd", "openrc"}, "darwin": {"launchd"}}
	for _, folder := range folders[p.os] {
		err := filepath.WalkDir(filepath.Join("packaging", folder), func(from string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			text, err := os.ReadFile(from)
			mode := fs.FileMode(0o644)
			if bytes.HasPrefix(text, []byte("#!")) {
				mode = 0o755 // not as the working tree has it: that depends on who checked it out
			}
			files = append(files, file{strings.TrimPrefix(filepath.ToSlash(from), "packaging/"), text, mode})
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return files, nil
}

func (b *builder) compile(p platform, to string) error {
	flags := "-s -w -buildid="
	if b.version != "" {
		flags += " -X main.version=" + b.version
	}
	return b.do(b.goBuild(p.env(), "-trimpath", "-buildvcs=false", "-ldflags", flags, "-o", to, "./cmd/capagent"))
}

func (b *builder) goBuild(env []string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(b.ctx, "go", append([]string{"build"}, args...)...)
	cmd.Env = append(os.Environ(), env...)
	return cmd
}

func (b *builder) do(cmd *exec.Cmd) error {
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	return nil
}

// ask runs the program, away from this user's configuration.
func (b *builder) ask(args ...string) ([]byte, error) {
	cmd := exec.CommandContext(b.ctx, b.native, args...)
	cmd.Env = []string{"HOME=" + b.work}
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("capagent %s: %w", strings.Join(args, " "), err)
	}
	return out, nil
}
