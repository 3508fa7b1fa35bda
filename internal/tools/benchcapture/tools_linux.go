package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"capagent/internal/traffic"
)

// place is what a tool is told.
type place struct {
	nic, dir string
}

// tool is one candidate.
type tool struct {
	name string
	ring string                 // how it is told so many MiB, for the table
	args func(p place) []string // of the command; it ends with SIGINT
	dirs []string               // that it wants in its folder
	// check reads what it wrote; nil: pcap or pcapng files.
	check   func(c *traffic.Checker, path string) error
	env     []string
	ours    bool                // ours to be better
	prepare func(p place) error // makes what the command needs; nil: nothing
	// What it does at low priority is counted apart, and waited for so long.
	background time.Duration
	hangs      bool // it writes its files when it is stopped, and then does not end
}

// tools are the candidates, each with a ring of so many MiB. The first of them is
// what is measured, tcpdump is its measure.
func (b *bencher) tools(ring int) ([]tool, error) {
	capagent, err := filepath.Abs(b.capagent)
	if err != nil {
		return nil, err
	}
	all := []tool{
		{
			name: "capagent capture", ours: true, ring: fmt.Sprintf("%d MiB", ring),
			args: func(p place) []string {
				fill := strings.NewReplacer("{capagent}", capagent, "{if}", p.nic, "{file}", filepath.Join(p.dir, "out.pcap"), "{ring}", strconv.Itoa(ring))
				args := strings.Fields(b.command)
				for i := range args {
					args[i] = fill.Replace(args[i])
				}
				return args
			},
			env: []string{"CAPAGENT_AGENT_STATE_DIR=" + filepath.Join(b.dir, "state")},
		},
		{name: "tcpdump", ring: fmt.Sprintf("-B %d", ring<<10), args: func(p place) []string {
			return []string{"tcpdump", "-Z", "root", "-n", "-i", p.nic, "-B", strconv.Itoa(ring << 10), "-w", filepath.Join(p.dir, "out.pcap")}
		}},
		{name: "dumpcap", ring: fmt.Sprintf("-B %d", ring), args: func(p place) []string {
			return []string{"dumpcap", "-q", "-i", p.nic, "-B", strconv.Itoa(ring), "-w", filepath.Join(p.dir, "out.pcapng")}
		}},
		{name: "netsniff-ng", ring: fmt.Sprintf("-s -S %dMiB", ring), args: func(p place) []string {
			return []string{"netsniff-ng", "-s", "-S", strconv.Itoa(ring) + "MiB", "-i", p.nic, "-o", filepath.Join(p.dir, "out.pcap")}
		}},
		{name: "stenotype", ring: fmt.Sprintf("--blocks=%d", ring), dirs: []string{"PKT0", "IDX0"}, check: checkBlocks, hangs: true, args: func(p place) []string {
			return []string{
				"stenotype", "--iface=" + p.nic, "--dir=" + p.dir, "--threads=1", "--blocks=" + strconv.Itoa(ring), "--aiops=32",
				"--uid=root", "--gid=root", "--no_watchdogs", "--seccomp=none", "--preallocate_file_mb=0", "-v",
			}
		}},
	}
	if b.options.tools == "" {
		return all, nil
	}
	var some []tool
	for name := range strings.SplitSeq(b.options.tools, ",") {
		found := false
		for _, t := range all {
			if short, _, _ := strings.Cut(t.name, " "); short == name {
				some, found = append(some, t), true
			}
		}
		if !found {
			return nil, fmt.Errorf("tool %q is not known", name)
		}
	}
	return some, nil
}

// missing says whether a tool is not installed.
func (t tool) missing() bool {
	_, err := exec.LookPath(t.args(place{})[0])
	return err != nil
}

// versions are the first lines that the tools say of themselves.
func versions(tools []tool) string {
	var said []string
	for _, t := range tools {
		flag, program := "--version", t.args(place{})[0]
		if t.name == "stenotype" || t.missing() {
			continue // it has no such flag
		}
		if t.ours {
			flag = "version"
		}
		out, err := exec.Command(program, flag).CombinedOutput() //nolint:noctx // short
		if err != nil && t.ours {
			continue // another command stands in for capagent
		}
		line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		if len(line) > 0 && len(line) < 100 {
			said = append(said, strings.TrimSuffix(line, "."))
		}
	}
	return strings.Join(said, "; ")
}

// check reads every file that a tool left in its folder.
func (t tool) checkFiles(dir string) (traffic.Result, error) {
	var c traffic.Checker
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || strings.Contains(path, "/IDX0/") {
			return err
		}
		if info, err := e.Info(); err != nil || info.Size() == 0 {
			return err
		}
		if t.check != nil {
			return t.check(&c, path)
		}
		return c.File(path)
	})
	return c.Result(), err
}

// checkBlocks reads a file of stenotype: TPACKET_V3 blocks as the kernel made
// them, 1 MiB each.
func checkBlocks(c *traffic.Checker, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	ne, block := binary.NativeEndian, make([]byte, 1<<20)
	c.Begin()
	for {
		n, err := io.ReadFull(f, block)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("check %s: %w", path, err)
		}
		if n < 48 {
			return fmt.Errorf("check %s: block of %d bytes", path, n)
		}
		at, next := 0, int(ne.Uint32(block[16:]))
		for range ne.Uint32(block[12:]) {
			if at += next; next <= 0 || at+28 > n {
				return fmt.Errorf("check %s: packet at %d of a block of %d bytes", path, at, n)
			}
			h := block[at:]
			from, length := at+int(ne.Uint16(h[24:])), int(ne.Uint32(h[12:]))
			if length < 0 || from+length > n {
				return fmt.Errorf("check %s: packet of %d bytes at %d of a block of %d bytes", path, length, from, n)
			}
			c.Packet(int64(ne.Uint32(h[4:]))*1e9+int64(ne.Uint32(h[8:])), block[from:from+length])
			next = int(ne.Uint32(h))
		}
	}
}
