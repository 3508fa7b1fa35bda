// Command dist builds what is given to users: an archive for every system, and
// packages for Linux, with their parts listed (CycloneDX) and their checksums. The
// same commit and version give the same bytes, wherever and whenever it runs.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const everything = "linux/amd64,linux/arm64,linux/armv7,windows/amd64,windows/arm64,darwin/amd64,darwin/arm64"

func main() {
	out := flag.String("o", "dist", "folder for the results; it is made anew")
	platforms := flag.String("platforms", everything, "what to build for, separated by commas")
	version := flag.String("version", "", "version to build in; empty leaves the program's own")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *out, *platforms, *version); err != nil {
		fmt.Fprintln(os.Stderr, "dist:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out, platforms, version string) error {
	made, err := commitTime(ctx)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(out); err != nil {
		return err
	}
	b := &builder{ctx: ctx, out: out, work: filepath.Join(out, ".work"), version: version, made: made}
	if err := os.MkdirAll(b.work, 0o755); err != nil {
		return err
	}
	if err := b.prepare(); err != nil {
		return err
	}
	for name := range strings.SplitSeq(platforms, ",") {
		p, err := platformOf(name)
		if err != nil {
			return err
		}
		if err := b.platform(p); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if err := os.RemoveAll(b.work); err != nil {
		return err
	}
	return writeSums(out)
}

// commitTime is SOURCE_DATE_EPOCH (reproducible-builds.org), or when the last
// commit was made.
func commitTime(ctx context.Context) (time.Time, error) {
	text := os.Getenv("SOURCE_DATE_EPOCH")
	if text == "" {
		out, err := exec.CommandContext(ctx, "git", "log", "-1", "--format=%ct").Output()
		if err != nil {
			return time.Time{}, fmt.Errorf("without git, set SOURCE_DATE_EPOCH: %w", err)
		}
		text = string(out)
	}
	seconds, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// platform is what to build for.
type platform struct{ os, arch string } // arch as in names of files: armv7

func platformOf(name string) (platform, error) {
	system, arch, ok := strings.Cut(name, "/")
	if !ok || system == "" || arch == "" {
		return platform{}, fmt.Errorf("%q is not a platform such as linux/amd64", name)
	}
	return platform{system, arch}, nil
}

// env is what the go command is told; nothing of the user's own settings changes
// what comes out.
func (p platform) env() []string {
	env := []string{"CGO_ENABLED=0", "GOOS=" + p.os, "GOARCH=" + p.arch, "GOFLAGS=", "GOEXPERIMENT=", "GOAMD64=v1", "GOARM64=v8.0", "GOWORK=off"}
	if p.arch == "armv7" {
		env = append(env, "GOARCH=arm", "GOARM=7")
	}
	return env
}

func (p platform) program() string {
	if p.os == "windows" {
		return "capagent.exe"
	}
	return "capagent"
}
