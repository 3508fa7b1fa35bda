package main

import (
	"bytes"
	"crypto/sha256"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestACaptureHoldsAllWholePacketsThatFit(t *testing.T) {
	const record = recordHeader + 1500
	for _, c := range []struct {
		limit uint64
		want  int
	}{
		{0, fileHeader},
		{fileHeader + record - 1, fileHeader},
		{fileHeader + record, fileHeader + record},
		{9 << 20, fileHeader + (9<<20-fileHeader)/record*record}, // more than two chunks
	} {
		var b bytes.Buffer
		if err := writeCapture(&b, c.limit, 1500, 1); err != nil {
			t.Fatal(err)
		}
		if b.Len() != c.want {
			t.Errorf("limit %d: %d bytes, want %d", c.limit, b.Len(), c.want)
		}
	}
}

func TestTheSeedDecidesTheBytes(t *testing.T) {
	sum := func(seed string) [32]byte {
		var b bytes.Buffer
		if err := run([]string{"-size", "5MiB", "-packet", "60", "-seed", seed, "-"}, &b, os.Stderr); err != nil {
			t.Fatal(err)
		}
		return sha256.Sum256(b.Bytes())
	}
	first, again, other := sum("7"), sum("7"), sum("8")
	if first != again {
		t.Error("the same seed gave two captures")
	}
	if first == other {
		t.Error("two seeds gave the same capture")
	}
}

func TestTsharkAcceptsEveryPacket(t *testing.T) {
	if _, err := exec.LookPath("tshark"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	for _, frame := range []string{"50", "61", "1500", "65535"} {
		path := filepath.Join(t.TempDir(), "big.pcap")
		if err := run([]string{"-size", "6MB", "-packet", frame, path}, os.Stdout, os.Stderr); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("tshark", "-n", "-r", path, "-c", "5000", "-o", "ip.check_checksum:TRUE", "-T", "fields",
			"-e", "frame.protocols", "-e", "ip.checksum.status", "-e", "frame.len", "-e", "_ws.expert").Output()
		if err != nil {
			t.Fatal(err)
		}
		want := "eth:ethertype:ip:udp:data\t1\t" + frame + "\t\n"
		if got := strings.Count(string(out), want); got == 0 || got*len(want) != len(out) {
			t.Errorf("frames of %s: %d lines %q in %d bytes: %.200q", frame, got, want, len(out), out)
		}
	}
}

func TestATreeHoldsDistinctCapturesUnderHostileNames(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("names lose their last blank here")
	}
	const files = 2500
	dir := t.TempDir()
	refused, err := writeTree(dir, files, 1)
	if err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS == "linux" && refused != 0 {
		t.Errorf("%d names refused", refused)
	}
	sums, longNames, found := map[[32]byte]bool{}, 0, ""
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		found += d.Name() + "/"
		if d.IsDir() {
			return nil
		}
		if len(d.Name()) == longest {
			longNames++
		}
		data, err := os.ReadFile(path)
		sums[sha256.Sum256(data)] = true
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(sums) != files {
		t.Errorf("%d distinct files, want %d", len(sums), files)
	}
	if refused > 0 {
		return
	}
	if longNames == 0 {
		t.Error("no name of 255 bytes")
	}
	for _, part := range []string{"\n", "\x1b[", "\xff", "/-", "  ", `"`, "'", "$(", `\`, "%s", "\u202e", "<img", " /"} {
		if !strings.Contains(found, part) {
			t.Errorf("no name with %q", part)
		}
	}
}

func TestWrongArgumentsAreRefused(t *testing.T) {
	for _, args := range [][]string{
		{}, {"-size", "x", "f"}, {"-packet", "49", "f"}, {"-packet", "65536", "f"}, {"-files", "1"}, {"-files", "1", "-dir", "d", "f"},
	} {
		if run(args, os.Stdout, os.Stderr) == nil {
			t.Errorf("%q was accepted", args)
		}
	}
}
