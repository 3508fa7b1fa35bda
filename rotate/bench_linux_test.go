package rotate_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"capagent/internal/packet"
	"capagent/internal/pcapio"
	"capagent/rotate"
	"capagent/rotate/pcapfile"

	"golang.org/x/sys/unix"
)

// ring is packets of size bytes one behind the other as a kernel ring holds them:
// in no cache of the CPU.
func ring(size int) []packet.Packet {
	const ringSize = 64 << 20
	mem := make([]byte, ringSize)
	for i := range mem {
		mem[i] = byte(i)
	}
	stride := (size + 82 + 15) &^ 15 // TPACKET_V3's header
	var all []packet.Packet
	for at := 82; at+size <= len(mem); at += stride {
		all = append(all, packet.Packet{Time: 1795309323e9 + int64(len(all)), Data: mem[at : at+size], Length: uint32(size)})
	}
	return all[:len(all)/256*256]
}

// cpu is the processor time of the process in nanoseconds.
func cpu() int64 {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u)
	return u.Utime.Nano() + u.Stime.Nano()
}

// BenchmarkRotate tells the processor time of the whole process per packet: of
// pcapfile alone, with one file of 5 million packets and with 50 of 100,000 that
// are complete on the disk, and of these 50 when a Rotator makes and seals them.
func BenchmarkRotate(b *testing.B) {
	const perFile, files = 100_000, 50
	for _, size := range []int{64, 512, 1514} {
		packets := ring(size)
		for _, way := range []struct {
			name string
			make func(testing.TB, string) (func([]packet.Packet) error, func() error)
		}{
			{"one", benchFiles(perFile * files)},
			{"files", benchFiles(perFile)},
			{"rotate", benchRotate(perFile)},
		} {
			b.Run(fmt.Sprintf("%d/%s", size, way.name), func(b *testing.B) {
				write, end := way.make(b, b.TempDir())
				var batch [256]packet.Packet // as a source fills it
				start := cpu()
				b.ResetTimer()
				for done := 0; done < b.N; done += len(batch) {
					n := copy(batch[:min(len(batch), b.N-done)], packets[done%len(packets):])
					if err := write(batch[:n]); err != nil {
						b.Fatal(err)
					}
				}
				if err := end(); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				b.ReportMetric(float64(cpu()-start)/float64(b.N), "cpu-ns/op")
				b.SetBytes(int64(size))
			})
		}
	}
}

func benchRotate(perFile int) func(testing.TB, string) (func([]packet.Packet) error, func() error) {
	return func(t testing.TB, dir string) (func([]packet.Packet) error, func() error) {
		r, err := rotate.New(rotate.Options{
			Dir: dir, Name: "eth0", Source: newLine(ether), Config: rotate.Config{Packets: perFile, Format: "pcapng"},
			Sealed: func(s rotate.Sealed) {
				if s.Err != nil || os.Remove(s.Path) != nil {
					t.Error(s.Err)
				}
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		return r.Write, r.Close
	}
}

func benchFiles(perFile int) func(testing.TB, string) (func([]packet.Packet) error, func() error) {
	return func(t testing.TB, dir string) (func([]packet.Packet) error, func() error) {
		w, err := pcapfile.New(pcapfile.Options{})
		if err != nil {
			t.Fatal(err)
		}
		number, n, size := 0, 0, int64(0)
		next := func() {
			number++
			f, err := pcapfile.Create(filepath.Join(dir, fmt.Sprint(number)), false)
			if err == nil {
				err = w.Begin(f, pcapfile.Header{Format: pcapio.Pcapng, Interfaces: newLine(ether).interfaces, Expect: min(size, 1<<30)})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		next()
		type ended struct {
			ending *pcapfile.Ending
			path   string
		}
		ends, done := make(chan ended, 16), make(chan struct{})
		go func() {
			for e := range ends {
				if _, err := e.ending.Wait(); err != nil || os.Remove(e.path) != nil {
					t.Error(err)
				}
			}
			close(done)
		}()
		return func(batch []packet.Packet) error {
				for n+len(batch) > perFile {
					if err := w.Write(batch[:perFile-n]); err != nil {
						return err
					}
					batch, n, size = batch[perFile-n:], 0, w.Size()
					ends <- ended{w.End(pcapfile.Trailer{Stats: make([]pcapfile.Stats, 1)}), filepath.Join(dir, fmt.Sprint(number))}
					next()
				}
				n += len(batch)
				return w.Write(batch)
			}, func() error {
				close(ends)
				<-done
				return w.Close()
			}
	}
}
