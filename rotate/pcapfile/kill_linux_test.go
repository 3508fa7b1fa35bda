package pcapfile_test

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"capagent/internal/packet"
	"capagent/internal/pcapio"
	"capagent/rotate/pcapfile"
)

var kills = flag.Int("pcapfile.kills", 20, "how many writers TestAKilledWriterLeavesAPrefix kills")

const victimVar = "PCAPFILE_VICTIM"

// victim writes numbered packets to one file after the other until it is killed.
func victim(dir string) {
	r := rand.New(rand.NewPCG(uint64(os.Getpid()), 0))
	formats := []pcapio.Format{pcapio.Pcap, pcapio.Pcapng}
	w, err := pcapfile.New(pcapfile.Options{
		BufferSize: 4096 << r.IntN(11), Flush: time.Duration(1+r.IntN(5)) * time.Millisecond, Buffered: r.IntN(3) == 0, NoSync: r.IntN(2) == 0,
	})
	each, pause := 1+r.IntN(20000), time.Duration(r.IntN(2)*r.IntN(3000))*time.Microsecond
	batch := make([]packet.Packet, 1+r.IntN(500))
	var next int64
	for i := 0; err == nil; i++ {
		var f *os.File
		if f, err = pcapfile.Create(filepath.Join(dir, fmt.Sprintf("%06d", i)), false); err != nil {
			break
		}
		err = w.Begin(f, pcapfile.Header{
			Format: formats[r.IntN(2)], Interfaces: []packet.Interface{{LinkType: raw}}, Expect: int64(r.IntN(2) << 24),
		})
		for n := 0; n < each && err == nil; n += len(batch) {
			numbered(batch, next)
			err = w.Write(batch)
			next += int64(len(batch))
			time.Sleep(pause)
		}
		w.End(pcapfile.Trailer{})
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func TestAKilledWriterLeavesAPrefix(t *testing.T) {
	torn, packets := 0, int64(0)
	for range *kills {
		dir := t.TempDir()
		cmd := exec.Command(os.Args[0])
		cmd.Env, cmd.Stderr = append(os.Environ(), victimVar+"="+dir), os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for { // until it has begun
			if names, _ := os.ReadDir(dir); len(names) > 0 {
				break
			}
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Duration(rand.IntN(80_000)) * time.Microsecond)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		n, wasTorn := prefix(t, dir)
		packets += n
		if wasTorn {
			torn++
		}
		_ = os.RemoveAll(dir)
	}
	t.Logf("%d packets; %d of %d killed writers left a torn record", packets, torn, *kills)
	if packets == 0 || torn == 0 {
		t.Error("the kills met nothing")
	}
}

// prefix checks that the files in dir hold the first packets, that only the last
// with any bytes is torn, and tells how many there are.
func prefix(t *testing.T, dir string) (packets int64, torn bool) {
	t.Helper()
	paths, _ := filepath.Glob(filepath.Join(dir, "*"))
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() == 0 {
			torn = true // nothing may follow
			continue
		}
		if torn {
			t.Errorf("%s: %d bytes behind a file that is torn", path, info.Size())
		}
		all, err := read(t, path)
		if err := follows(all, packets); err != nil {
			t.Errorf("%s (%d bytes): %v", path, info.Size(), err)
		}
		packets += int64(len(all))
		var noCapture *pcapio.NotCaptureError
		if short := errors.As(err, &noCapture) && info.Size() < 100; err != nil && !short && !errors.Is(err, pcapio.ErrTruncated) {
			t.Errorf("%s (%d bytes): %v", path, info.Size(), err)
		}
		torn = err != nil
	}
	return packets, torn
}
