package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"capagent/internal/tools/benchinspect/packets"
)

// hostile are captures that are made to cost as much as they can: each function
// returns the n-th frame.
var hostile = []struct {
	name  string
	frame func(r *rand.Rand, n int) []byte
}{
	{"noise", func(r *rand.Rand, _ int) []byte { return noise(r, 60) }},
	{"a connection in each packet", func(r *rand.Rand, _ int) []byte {
		return packets.TCP(r.Uint32(), r.Uint32(), 1000, 80, r.Uint32(), packets.SYN, nil)
	}},
	{"a UDP flow in each packet", func(r *rand.Rand, _ int) []byte {
		return packets.UDP(r.Uint32(), r.Uint32(), 1000, 2000, []byte("hello"))
	}},
	{"a name in each packet", func(r *rand.Rand, n int) []byte {
		return packets.UDP(1, 2, 1000, 53, packets.Question(fmt.Sprintf("%x.example.com", r.Uint64())))
	}},
	{"pointers in DNS", func(_ *rand.Rand, _ int) []byte { return packets.UDP(1, 2, 53, 1000, pointers) }},
	{"bytes backwards", func(_ *rand.Rand, n int) []byte {
		return packets.TCP(uint32(n/4000), 2, 1000, 80, uint32(1_000_000-n%4000), packets.ACK, []byte("x"))
	}},
	{"segments with gaps", func(_ *rand.Rand, n int) []byte {
		return packets.TCP(uint32(n%40_000), 2, 1000, 80, uint32(n/40_000)*3000, packets.ACK, make([]byte, 1400))
	}},
	{"fragments without an end", func(r *rand.Rand, n int) []byte {
		return packets.Fragment(1, 2, uint16(n/8), n%8*8*100, noise(r, 800))
	}},
	{"small overlapping fragments", func(r *rand.Rand, n int) []byte {
		return packets.Fragment(1, 2, uint16(n/4000), r.IntN(4000)*16, noise(r, 8))
	}},
	{"tunnels in tunnels", func(_ *rand.Rand, _ int) []byte { return nested }},
	{"gzip bombs", stream(func(r *rand.Rand, n int) []byte { return bomb })},
	{"requests in a row", stream(func(r *rand.Rand, n int) []byte {
		return fmt.Appendf(nil, "GET /%x HTTP/1.1\r\nHost: %x.example\r\nUser-Agent: %x\r\n\r\n", r.Uint64(), r.Uint64(), r.Uint64())
	})},
	{"headers without an end", func(r *rand.Rand, n int) []byte {
		text := bytes.Repeat([]byte("X: y\r\n"), 200)
		if n < 20_000 {
			text = []byte("GET / HTTP/1.1\r\n")
		}
		return packets.TCP(uint32(n%20_000), 2, 1000, 80, uint32(max(n/20_000-1, 0)*len(text)+min(n/20_000, 1)*16), packets.ACK, text)
	}},
	{"mail in mail", stream(func(_ *rand.Rand, n int) []byte { return mailbomb })},
	{"hellos of QUIC", func(r *rand.Rand, n int) []byte {
		b := append([]byte{0xc3, 0, 0, 0, 1, 8}, noise(r, 8)...)
		b = append(append(b, 0, 0, 0x44, 0x9e), noise(r, 1182)...)
		return packets.UDP(r.Uint32(), 2, 1000, 443, b)
	}},
}

func noise(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// stream puts messages into one connection after another, 100 in each.
func stream(message func(r *rand.Rand, n int) []byte) func(r *rand.Rand, n int) []byte {
	const perConnection = 100
	var rest []byte
	var seq, conn uint32
	messages := 0
	return func(r *rand.Rand, n int) []byte {
		if len(rest) == 0 {
			if messages%perConnection == 0 {
				conn, seq = conn+1, 0
			}
			rest = message(r, messages)
			messages++
		}
		b := rest[:min(len(rest), 1400)]
		rest = rest[len(b):]
		f := packets.TCP(conn, 2, 80, 1000, seq, packets.ACK, b)
		if messages > 0 && bytes.HasPrefix(b, []byte("GET")) || bytes.HasPrefix(b, []byte("MAIL")) {
			f = packets.TCP(conn, 2, 1000, 25, seq, packets.ACK, b)
		}
		seq += uint32(len(b))
		return f
	}
}

// pointers is a DNS message whose records each point at a long name.
var pointers = func() []byte {
	b := []byte{0, 1, 0x84, 0, 0, 0, 0, 110, 0, 0, 0, 0}
	for range 3 {
		b = append(append(b, 63), bytes.Repeat([]byte("a"), 63)...)
	}
	b = append(b, 40)
	b = append(append(b, bytes.Repeat([]byte("b"), 40)...), 0)
	b = append(b, 0, 2, 0, 1, 0, 0, 0, 0, 0, 2, 0xc0, 12)
	for range 100 {
		b = append(b, 0xc0, 12, 0, 2, 0, 1, 0, 0, 0, 0, 0, 2, 0xc0, 12)
	}
	return b
}()

// nested is a frame of as many headers as fit.
var nested = func() []byte {
	b := packets.IP(1, 2, 17, make([]byte, 20))
	for range 40 {
		b = packets.IP(1, 2, 4, b)
	}
	return packets.Ethernet(b)
}()

var bomb = func() []byte {
	var b bytes.Buffer
	w, _ := gzip.NewWriterLevel(&b, gzip.BestCompression) // the level is right
	_, _ = w.Write(make([]byte, 20<<20))                  // a buffer never fails
	_ = w.Close()
	return append(fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n", b.Len()), b.Bytes()...)
}()

var mailbomb = func() []byte {
	var b strings.Builder
	b.WriteString("MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n")
	for n := range 200 {
		fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=%d\r\n\r\n--%d\r\n", n, n)
	}
	b.WriteString(".\r\n")
	return []byte(b.String())
}()

// write makes a capture of at least size bytes.
func write(path string, size int64, frame func(r *rand.Rand, n int) []byte) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	out := bufio.NewWriterSize(f, 1<<20)
	if _, err := out.Write(header()); err != nil {
		return err
	}
	r := rand.New(rand.NewPCG(1, 2))
	var record []byte
	for n, written := 0, int64(24); written < size; n++ {
		b := frame(r, n)
		record = binary.LittleEndian.AppendUint32(record[:0], uint32(1_600_000_000+n/100_000))
		record = binary.LittleEndian.AppendUint32(record, uint32(n%100_000*10_000))
		record = binary.LittleEndian.AppendUint32(record, uint32(len(b)))
		record = binary.LittleEndian.AppendUint32(record, uint32(len(b)))
		record = append(record, b...)
		if _, err := out.Write(record); err != nil {
			return err
		}
		written += int64(len(record))
	}
	return out.Flush()
}

// told finds the limits, and the faults, that inspect speaks of.
var told = regexp.MustCompile(`(?m)^(?:limit met: .*\((\w+), \d+ times\)|the parser .* failed .*)$`)

// attack inspects each of the hostile captures, of so many MiB.
func attack(ctx context.Context, out io.Writer, capagent, dir string, cpu int, mib int64) error {
	fmt.Fprintf(out, "\nHostile captures of %d MiB\n\n| made of | seconds for a GB | RSS MiB | limits that were met |\n|---|---|---|---|\n", mib)
	path := filepath.Join(dir, "hostile.pcap")
	defer func() { _ = os.Remove(path) }()
	for _, h := range hostile {
		if err := write(path, mib<<20, h.frame); err != nil {
			return err
		}
		s, said, err := measure(ctx, cpu, []string{capagent, "inspect", path})
		if err != nil {
			return fmt.Errorf("%s: %w", h.name, err)
		}
		var limits []string
		for _, m := range told.FindAllStringSubmatch(said, -1) {
			limits = append(limits, m[1])
		}
		fmt.Fprintf(out, "| %s | %.1f | %d | %s |\n", h.name, s.cpu.Seconds()*1e9/float64(mib<<20), s.rss>>20, strings.Join(limits, ", "))
	}
	return nil
}
