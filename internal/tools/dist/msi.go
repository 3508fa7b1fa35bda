package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"
	"time"
)

// msiTemplates say what machine an installer is for.
var msiTemplates = map[string]string{"amd64": "x64;1033", "arm64": "Arm64;1033"}

// upgradeCode is what all versions of the installer have in common; never change it.
const upgradeCode = "{E0C24F2B-5B41-5F2C-9C5B-6C2B8C6D3A01}"

// msiChanges are what wixl 0.101 has no words for.
var msiChanges = []string{
	// Properties that may be given by who is not elevated yet.
	"UPDATE Property SET Value='OLDER;NEWER;URL;TOKENFILE;WATCH' WHERE Property='SecureCustomProperties'",
	// From 0.0.0 to this version, both included.
	"DELETE FROM `Upgrade` WHERE `ActionProperty`='OLDER'",
	"INSERT INTO `Upgrade` (`UpgradeCode`, `VersionMin`, `VersionMax`, `Attributes`, `ActionProperty`) VALUES ('" + upgradeCode + "', '0.0.0', 'VERSION', 768, 'OLDER')",
	// Right after InstallInitialize: what fails later brings the old version back.
	"INSERT INTO `InstallExecuteSequence` (`Action`, `Sequence`) VALUES ('RemoveExistingProducts', 1501)",
}

// msi makes the installer for Windows with wixl and msibuild (msitools), where they are.
func (b *builder) msi(p platform, name string, files []file) error {
	for _, tool := range []string{"wixl", "msibuild"} {
		if _, err := exec.LookPath(tool); err != nil {
			fmt.Printf("%-16s without an msi: there is no %s here (Debian: wixl, msitools)\n", p.os+"/"+p.arch, tool)
			return nil
		}
	}
	version, err := msiVersion(b.version)
	if err != nil {
		return err
	}
	tree := filepath.Join(b.work, "tree-"+p.os+"-"+p.arch)
	about := msiAbout{Version: version, Upgrade: upgradeCode, Product: guid("product", b.version, p.arch)}
	content := sha256.New()
	for _, f := range files {
		if f.name == "LICENSE" || f.name == "capagent.cdx.json" || strings.HasSuffix(f.name, ".md") && !strings.Contains(f.name, "/") || f.name == "agent.toml.example" {
			about.Texts = append(about.Texts, f.name)
		} else if doc, ok := strings.CutPrefix(f.name, "docs/"); ok {
			about.Docs = append(about.Docs, doc)
		} else if f.name != p.program() {
			continue
		}
		content.Write(f.text)
		if err := b.place(tree, f); err != nil {
			return err
		}
	}
	source, err := about.source("packaging/windows/capagent.wxs")
	if err != nil {
		return err
	}
	content.Write(source)
	if err := b.place(tree, file{"capagent.wxs", source, 0o644}); err != nil {
		return err
	}
	out, err := filepath.Abs(filepath.Join(b.out, name+".msi"))
	if err != nil {
		return err
	}
	began := time.Now()
	steps := [][]string{{"wixl", "-a", "x64", "-o", out, "capagent.wxs"}} // for arm64, too: it knows none
	for _, q := range msiChanges {
		steps = append(steps, []string{"msibuild", out, "-q", strings.ReplaceAll(q, "VERSION", version)})
	}
	steps = append(steps, []string{"msibuild", out, "-s", "capagent " + b.version, "capagent maintainers", msiTemplates[p.arch], "{" + guid("package", string(content.Sum(nil))) + "}"})
	for _, args := range steps {
		cmd := exec.CommandContext(b.ctx, args[0], args[1:]...)
		cmd.Dir = tree
		cmd.Env = append(os.Environ(), "TZ=UTC", "LC_ALL=C")
		if err := b.do(cmd); err != nil {
			return err
		}
	}
	if err := b.setTimes(out, began); err != nil {
		return err
	}
	return b.sign(out)
}

// msiAbout fills the template in.
type msiAbout struct {
	Version, Upgrade, Product string
	Texts, Docs               []string
}

func (a msiAbout) source(name string) ([]byte, error) {
	t, err := template.ParseFiles(name)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = t.Execute(&out, a)
	return out.Bytes(), err
}

// msiVersion is the part of a version that Windows compares: three numbers.
func msiVersion(version string) (string, error) {
	base, _, _ := strings.Cut(version, "-")
	parts := strings.Split(base, ".")
	for i, most := range []int{255, 255, 65535} {
		if len(parts) != 3 {
			break
		}
		if n, err := strconv.Atoi(parts[i]); err != nil || n < 0 || n > most {
			parts = nil
		}
	}
	if len(parts) != 3 {
		return "", fmt.Errorf("an msi can't have the version %q", version)
	}
	return strings.Join(parts, "."), nil
}

// guid is always the same for the same words (RFC 9562, version 8).
func guid(words ...string) string {
	sum := sha256.Sum256([]byte("capagent " + strings.Join(words, " ")))
	sum[6], sum[8] = sum[6]&0x0f|0x80, sum[8]&0x3f|0x80
	return strings.ToUpper(fmt.Sprintf("%x-%x-%x-%x-%x", sum[0:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16]))
}

// setTimes replaces the two times at which an installer was made and saved, which wixl
// takes from the clock, by the commit's.
func (b *builder) setTimes(name string, began time.Time) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	if n := replaceTimes(text, began.Add(-2*time.Second), time.Now().Add(2*time.Second), b.made); n != 2 {
		return errors.New("the installer has other times than wixl 0.101 writes")
	}
	return os.WriteFile(name, text, 0o644)
}

// replaceTimes sets properties of type VT_FILETIME between two times (MS-OLEPS 2.15),
// and counts them.
func replaceTimes(text []byte, from, to, made time.Time) (n int) {
	kind := []byte{0x40, 0, 0, 0}
	for at := 0; ; {
		i := bytes.Index(text[at:], kind)
		if i < 0 || at+i+12 > len(text) {
			return n
		}
		value := text[at+i+4 : at+i+12]
		if t := binary.LittleEndian.Uint64(value); fileTime(from) <= t && t <= fileTime(to) {
			binary.LittleEndian.PutUint64(value, fileTime(made))
			n++
		}
		at += i + 1
	}
}

// fileTime counts 100 ns since 1601.
func fileTime(t time.Time) uint64 { return uint64(t.UnixNano()/100) + 116444736000000000 }
