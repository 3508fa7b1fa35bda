package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

var someFiles = []file{{"capagent", []byte("program"), 0o755}, {"docs/a.md", []byte("text"), 0o644}}

func TestArchivesHoldWhatTheyAreGiven(t *testing.T) {
	b := &builder{out: t.TempDir(), made: time.Unix(1_800_000_000, 0)}
	slices.Reverse(someFiles) // order is not the caller's to think of
	for _, system := range []string{"linux", "windows"} {
		if err := b.archive(platform{system, "amd64"}, "capagent_1", someFiles); err != nil {
			t.Fatal(err)
		}
	}
	want := "capagent_1/capagent 755 1800000000 program\ncapagent_1/docs/a.md 644 1800000000 text\n"
	if got := untar(t, filepath.Join(b.out, "capagent_1.tar.gz")); got != want {
		t.Errorf("tar: %s", got)
	}
	if got := unzip(t, filepath.Join(b.out, "capagent_1.zip")); got != want {
		t.Errorf("zip: %s", got)
	}
}

func untar(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			return got.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(r)
		fmt.Fprintf(&got, "%s %o %d %s\n", h.Name, h.Mode, h.ModTime.Unix(), text)
	}
}

func unzip(t *testing.T, name string) string {
	t.Helper()
	z, err := zip.OpenReader(name)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	var got strings.Builder
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(r)
		fmt.Fprintf(&got, "%s %o %d %s\n", f.Name, f.Mode(), f.Modified.Unix(), text)
	}
	return got.String()
}

func TestZippedIsWholeAndAlwaysTheSame(t *testing.T) {
	text := bytes.Repeat([]byte("manual "), 1000)
	a, err := zipped(text)
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(a))
	if err != nil {
		t.Fatal(err)
	}
	if back, err := io.ReadAll(z); err != nil || !bytes.Equal(back, text) || !z.ModTime.IsZero() || z.Name != "" {
		t.Errorf("%d bytes come back, %v, header %+v", len(back), err, z.Header)
	}
}

func TestChecksums(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a"), []byte("abc"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := writeSums(dir); err != nil {
		t.Fatal(err)
	}
	got, _ := os.ReadFile(filepath.Join(dir, sumsName))
	if want := "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  a\n"; string(got) != want { // FIPS 180-4, B.1
		t.Errorf("%s", got)
	}
}

func TestVersionsOfPackages(t *testing.T) {
	made := time.Unix(1_800_000_000, 0).UTC()
	for _, tc := range []struct{ version, kind, want string }{
		{"1.2.3", "deb", "1.2.3"},
		{"1.2.3", "apk", "1.2.3"},
		{"1.2.3-4-gabcdef0-dirty", "deb", "1.2.3-4-gabcdef0-dirty"},
		{"0.1.0-dev", "apk", "0.1.0-pre20270115080000"},
	} {
		if got := (&builder{version: tc.version, made: made}).versionFor(tc.kind); got != tc.want {
			t.Errorf("%s as %s: %s, not %s", tc.version, tc.kind, got, tc.want)
		}
	}
}

func TestPlatforms(t *testing.T) {
	for _, bad := range []string{"", "linux", "/amd64", "linux/"} {
		if _, err := platformOf(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	p, err := platformOf("linux/armv7")
	if env := p.env(); err != nil || !slices.Contains(env, "GOARM=7") || slices.Index(env, "GOARCH=arm") < slices.Index(env, "GOARCH=armv7") {
		t.Errorf("armv7: %v, %v", env, err)
	}
}

func TestExitCodesAreThoseOfTheDocs(t *testing.T) {
	codes, err := exitCodes("../../../docs/commands.md")
	if err != nil || len(codes) < 10 || codes[0].Code != "0" {
		t.Errorf("%+v, %v", codes, err)
	}
}
