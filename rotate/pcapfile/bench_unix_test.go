//go:build unix

package pcapfile_test

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"capagent/internal/packet"
	"capagent/internal/pcapio"
	"capagent/rotate/pcapfile"

	"golang.org/x/sys/unix"
)

// ringSize is the memory that the packets come from: as in a capture they are
// in no cache of the CPU.
const ringSize = 64 << 20

// benchBytes is after how many bytes a file ends and is removed.
const benchBytes = 1 << 30

// ring is packets of size bytes one behind the other as a kernel ring holds them.
func ring(size int) []packet.Packet {
	mem := make([]byte, ringSize)
	for i := range mem {
		mem[i] = byte(i)
	}
	stride := (size + 82 + 15) &^ 15 // TPACKET_V3's header
	var all []packet.Packet
	for at := 82; at+size <= len(mem); at += stride {
		all = append(all, packet.Packet{Time: 1795309323e9 + int64(len(all)), Data: mem[at : at+size], Length: uint32(size)})
	}
	return all
}

// cpu is the processor time of the process in nanoseconds.
func cpu() int64 {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u)
	return u.Utime.Nano() + u.Stime.Nano()
}

// BenchmarkWrite tells the processor time of the whole process per packet of
// different sizes and ways to a file in the folder for temporary files; what the
// kernel does later on its own threads for what is in the page cache is not in it.
func BenchmarkWrite(b *testing.B) {
	for _, size := range []int{64, 512, 1514} {
		for _, way := range []struct {
			name string
			make func(testing.TB, string) (write func([]packet.Packet), end func())
		}{
			{"copy", benchCopy},
			{"pcap", benchWriter(pcapio.Pcap, pcapfile.Options{})},
			{"pcapng", benchWriter(pcapio.Pcapng, pcapfile.Options{})},
			{"buffered", benchWriter(pcapio.Pcap, pcapfile.Options{Buffered: true})},
			{"bufio", benchBufio},
			{"pcapio", benchPcapio},
		} {
			b.Run(fmt.Sprintf("%s/%d", way.name, size), func(b *testing.B) {
				packets, path := ring(size), filepath.Join(b.TempDir(), "f")
				var write func([]packet.Packet)
				var end func()
				var bytes int
				start := cpu()
				b.ResetTimer()
				const batch = 256
				for done := 0; done < b.N; {
					if write == nil {
						write, end = way.make(b, path)
					}
					from := done / batch * batch % (len(packets) / batch * batch)
					n := min(batch, b.N-done)
					write(packets[from : from+n])
					done, bytes = done+n, bytes+n*(size+16)
					if bytes >= benchBytes {
						end()
						write, bytes = nil, 0
						b.StopTimer()
						start -= cpu()
						_ = os.Remove(path)
						start += cpu()
						b.StartTimer()
					}
				}
				if write != nil {
					end()
				}
				b.StopTimer()
				b.ReportMetric(float64(cpu()-start)/float64(b.N), "cpu-ns/op")
				b.SetBytes(int64(size + 16))
			})
		}
	}
}

func benchWriter(format pcapio.Format, o pcapfile.Options) func(testing.TB, string) (func([]packet.Packet), func()) {
	return func(t testing.TB, path string) (func([]packet.Packet), func()) {
		o.NoSync = true
		w, err := pcapfile.New(o)
		if err != nil {
			t.Fatal(err)
		}
		begin(t, w, path, header(format, ether))
		return func(p []packet.Packet) {
				if err := w.Write(p); err != nil {
					t.Fatal(err)
				}
			}, func() {
				if err := w.Close(); err != nil {
					t.Fatal(err)
				}
			}
	}
}

func benchCopy(testing.TB, string) (func([]packet.Packet), func()) {
	buf, used := make([]byte, 16<<20), 0
	return func(batch []packet.Packet) {
		for i := range batch {
			if used+len(batch[i].Data) > len(buf) {
				used = 0
			}
			used += copy(buf[used:], batch[i].Data)
		}
	}, func() {}
}

func benchBufio(t testing.TB, path string) (func([]packet.Packet), func()) {
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w := bufio.NewWriterSize(f, 4<<20)
	var head [16]byte
	return func(batch []packet.Packet) {
			for i := range batch {
				p := &batch[i]
				binary.LittleEndian.PutUint32(head[0:], uint32(p.Time/1e9))
				binary.LittleEndian.PutUint32(head[4:], uint32(p.Time%1e9))
				binary.LittleEndian.PutUint32(head[8:], uint32(len(p.Data)))
				binary.LittleEndian.PutUint32(head[12:], p.Length)
				_, _ = w.Write(head[:])
				if _, err := w.Write(p.Data); err != nil {
					t.Fatal(err)
				}
			}
		}, func() {
			if w.Flush() != nil || f.Close() != nil {
				t.Fatal(path)
			}
		}
}

func benchPcapio(t testing.TB, path string) (func([]packet.Packet), func()) {
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	buffer := bufio.NewWriterSize(f, 4<<20)
	w, err := pcapio.NewPcapWriter(buffer, pcapio.PcapOptions{LinkType: ether})
	if err != nil {
		t.Fatal(err)
	}
	return func(batch []packet.Packet) {
			for i := range batch {
				if err := w.WritePacket(batch[i].Time, batch[i].Data, batch[i].Length); err != nil {
					t.Fatal(err)
				}
			}
		}, func() {
			if buffer.Flush() != nil || f.Close() != nil {
				t.Fatal(path)
			}
		}
}
