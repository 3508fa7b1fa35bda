package rotate_test

import (
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"capagent/internal/config"
	"capagent/internal/faulttest"
	"capagent/internal/pcapio"
	"capagent/rotate"
	"capagent/rotate/pcapfile"
)

var kills = flag.Int("rotate.kills", 50, "how many Rotators TestAKilledRotatorLosesNothingThatWasWritten kills")

var cuts = flag.Int("rotate.cuts", 5, "how often TestAPowerCutTakesNothingThatWasSealed cuts the power")

const victimVar = "ROTATE_VICTIM"

func TestMain(m *testing.M) {
	if dir := os.Getenv(victimVar); dir != "" {
		victim(dir)
	}
	os.Exit(faulttest.Main(m))
}

// victim salvages what is there and writes numbered packets until it is killed.
// What it is told of seals it appends to the file "told" beside the directory.
func victim(dir string) {
	name := dir + ".told"
	cut := os.Getenv(victimVar + "_TOLD") // on a disk that keeps its power
	if cut != "" {
		name = cut
	}
	told, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		panic(err)
	}
	tell := func(s rotate.Sealed) {
		if s.Err != nil {
			panic(s.Err)
		}
		_, _ = fmt.Fprintf(told, "%s %d\n", filepath.Base(s.Path), s.Packets)
	}
	if err := rotate.Salvage(dir, tell); err != nil {
		panic(err)
	}
	if os.Getenv(victimVar+"_SALVAGE") != "" {
		os.Exit(0)
	}
	r := rand.New(rand.NewPCG(uint64(os.Getpid()), 0))
	rotator, err := rotate.New(rotate.Options{
		Dir: dir, Name: "eth0", Source: newLine(ether), Sealed: tell,
		Config: rotate.Config{
			Packets: 1 + r.IntN(20_000), Size: config.Size(r.IntN(2) * (20_000 + r.IntN(4<<20))),
			Format: []string{"pcap", "pcapng"}[r.IntN(2)],
		},
		Writer: pcapfile.Options{BufferSize: 4096 << r.IntN(11), Flush: time.Duration(1+r.IntN(5)) * time.Millisecond, NoSync: cut == "" && r.IntN(2) == 0},
	})
	for next := int64(0); err == nil; {
		batch := numbered(1+r.IntN(500), next, 1795309323e9, 1000)
		err = rotator.Write(batch)
		next += int64(len(batch))
	}
	if cut != "" {
		select {} // the disk is full, or gone
	}
	panic(err)
}

func child(t *testing.T, dir string, env ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env, cmd.Stderr = append(append(os.Environ(), victimVar+"="+dir), env...), os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

func TestAKilledRotatorLosesNothingThatWasWritten(t *testing.T) {
	torn, recovered, packets, files := 0, 0, uint64(0), 0
	for range *kills {
		dir := filepath.Join(t.TempDir(), "spool")
		cmd := child(t, dir)
		for { // until it has begun
			if names, _ := os.ReadDir(dir); len(names) > 0 {
				break
			}
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Duration(rand.IntN(60_000)) * time.Microsecond)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		want, wasTorn := readable(t, dir)
		if rand.IntN(2) == 0 { // one that salvages is killed, too
			cmd := child(t, dir, victimVar+"_SALVAGE=1")
			time.Sleep(time.Duration(rand.IntN(30_000)) * time.Microsecond)
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
		err := rotate.Salvage(dir, func(s rotate.Sealed) {
			if s.Err != nil || s.Reason != rotate.Recovered || s.Packets == 0 {
				t.Errorf("%+v", s)
			}
			recovered++
		})
		if err != nil {
			t.Fatal(err)
		}
		got, n := all(t, dir)
		if got != want {
			t.Errorf("%d packets could be read before, %d after", want, got)
		}
		checkTold(t, dir, dir+".told")
		packets, files = packets+got, files+n
		if wasTorn {
			torn++
		}
	}
	t.Logf("%d kills: %d packets in %d files, %d of them recovered, %d kills left a torn record", *kills, packets, files, recovered, torn)
	if packets == 0 || torn == 0 || recovered == 0 {
		t.Error("the kills met nothing")
	}
}

// readable is how many packets can be read in the files as they lie there.
func readable(t *testing.T, dir string) (packets uint64, torn bool) {
	t.Helper()
	paths, _ := filepath.Glob(filepath.Join(dir, "*"))
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		r, err := pcapio.NewReader(f)
		var p pcapio.Packet
		for err == nil {
			if err = r.Next(&p); err == nil {
				packets++
			}
		}
		_ = f.Close()
		if !errors.Is(err, io.EOF) {
			torn = true
			if !strings.HasSuffix(path, rotate.Part) {
				t.Errorf("%s is sealed: %v", path, err)
			}
		}
	}
	return packets, torn
}

// all checks that the files in dir hold packets numbered from 0 on and that
// others read them, and returns how many there are.
func all(t *testing.T, dir string) (packets uint64, files int) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths { // in the order of their names, which is that of time
		if strings.HasSuffix(path, rotate.Part) {
			t.Errorf("%s is left", path)
		}
		for _, p := range read(t, path) {
			if n := binary.BigEndian.Uint64(p.Data); n != packets {
				t.Fatalf("%s: packet %d comes where %d should", path, n, packets)
			}
			packets++
		}
	}
	if _, err := exec.LookPath("capinfos"); err == nil && len(paths) > 0 {
		cmd := exec.Command("capinfos", append([]string{"-c"}, paths[max(0, len(paths)-50):]...)...)
		var said strings.Builder
		cmd.Stderr = &said
		if err := cmd.Run(); err != nil || strings.TrimSpace(said.String()) != "" {
			t.Errorf("capinfos: %v: %s", err, said.String())
		}
	}
	return packets, len(paths)
}

// checkTold checks that each file of which a Rotator was told is there.
func checkTold(t *testing.T, dir, name string) (packets int) {
	t.Helper()
	told, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(told)) {
		var name string
		var n int
		if fields, _ := fmt.Sscanf(line, "%s %d\n", &name, &n); fields != 2 {
			continue
		}
		if got := len(read(t, filepath.Join(dir, name))); got != n {
			t.Errorf("%s was sealed with %d packets and has %d", name, n, got)
		}
		packets += n
	}
	return packets
}

// The power goes at any moment: what was told is there, and whole.
func TestAPowerCutTakesNothingThatWasSealed(t *testing.T) {
	if err := faulttest.CanMount("ext4"); err != nil {
		t.Skip(err)
	}
	sealed := 0
	for range *cuts {
		base := t.TempDir()
		d, err := faulttest.NewDisk(filepath.Join(base, "image"), filepath.Join(base, "mount"), "ext4", "commit=1000")
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		dir, told := filepath.Join(d.Mount, "spool"), filepath.Join(base, "told")
		cmd := child(t, dir, victimVar+"_TOLD="+told)
		for range 10_000 { // until it has begun
			if names, _ := os.ReadDir(dir); len(names) > 0 {
				break
			}
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Duration(rand.IntN(100_000)) * time.Microsecond)
		_ = cmd.Process.Signal(syscall.SIGSTOP)
		var status syscall.WaitStatus
		if _, err := syscall.Wait4(cmd.Process.Pid, &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
			t.Fatal(err, status)
		}
		if err := d.Cut(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if err := (faulttest.Disks{d}).Restore(); err != nil {
			t.Fatal(err)
		}
		seen := map[uint64]bool{}
		err = rotate.Salvage(dir, func(s rotate.Sealed) {
			// Of a file that was not sealed even the header may be lost. It stays.
			if s.Err != nil && (!errors.Is(s.Err, pcapio.ErrNotCapture) || !strings.HasSuffix(s.Path, rotate.Part)) {
				t.Errorf("%+v", s)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		sealed += checkTold(t, dir, told)
		paths, _ := filepath.Glob(filepath.Join(dir, "*"))
		for _, path := range paths {
			if strings.HasSuffix(path, rotate.Part) {
				continue
			}
			for _, p := range read(t, path) {
				if n := binary.BigEndian.Uint64(p.Data); seen[n] {
					t.Fatalf("packet %d comes twice", n)
				} else {
					seen[n] = true
				}
			}
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Logf("%d cuts: %d packets were sealed", *cuts, sealed)
	if sealed == 0 {
		t.Error("the cuts met nothing")
	}
}
