package inspect

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"

	"capagent/internal/pcapio"
	"capagent/internal/sums"
)

// nothing stands for the digests where only reading and parsing are measured.
type nothing struct{}

func (nothing) Write(p []byte) (int, error) { return len(p), nil }

// benchFile makes a file of 256 MiB with packets of one size.
func benchFile(b *testing.B, format pcapio.Format, size int) *os.File {
	b.Helper()
	f, err := os.Create(filepath.Join(b.TempDir(), "bench"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { f.Close() })
	data := bytes.Repeat([]byte("payload "), size/8+1)[:size]
	var out bytes.Buffer
	pcap, err := pcapio.NewPcapWriter(&out, pcapio.PcapOptions{LinkType: 1})
	if err != nil {
		b.Fatal(err)
	}
	if format == pcapio.Pcapng {
		out.Reset()
	}
	ng, err := pcapio.NewPcapngWriter(&out, pcapio.Section{})
	if err != nil {
		b.Fatal(err)
	}
	if format == pcapio.Pcap {
		out.Truncate(24)
	} else if _, err := ng.AddInterface(pcapio.Interface{LinkType: 1}); err != nil {
		b.Fatal(err)
	}
	for written, ns := int64(0), int64(1700000000e9); written < 256<<20; ns += 12345 {
		if format == pcapio.Pcap {
			err = pcap.WritePacket(ns, data, 0)
		} else {
			err = ng.WritePacket(0, ns, data, 0, "")
		}
		if err != nil {
			b.Fatal(err)
		}
		if out.Len() > 1<<20 {
			n, err := out.WriteTo(f)
			if err != nil {
				b.Fatal(err)
			}
			written += n
		}
	}
	if _, err := out.WriteTo(f); err != nil {
		b.Fatal(err)
	}
	return f
}

// BenchmarkInspect reads files that the system has cached. "parse" is without
// the digests, "read" does nothing but read the file as the inspection does.
func BenchmarkInspect(b *testing.B) {
	for _, c := range []struct {
		name   string
		format pcapio.Format
		size   int
	}{
		{"pcap-1500", pcapio.Pcap, 1500},
		{"pcapng-1500", pcapio.Pcapng, 1500},
		{"pcap-64", pcapio.Pcap, 64},
	} {
		b.Run(c.name, func(b *testing.B) {
			f := benchFile(b, c.format, c.size)
			info, err := f.Stat()
			if err != nil {
				b.Fatal(err)
			}
			measure := func(name string, one func() error) {
				b.Run(name, func(b *testing.B) {
					b.SetBytes(info.Size())
					b.ReportAllocs()
					for b.Loop() {
						if _, err := f.Seek(0, io.SeekStart); err != nil {
							b.Fatal(err)
						}
						if err := one(); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
			buf := make([]byte, 256<<10)
			measure("read", func() error {
				_, err := io.CopyBuffer(nothing{}, struct{ io.Reader }{f}, buf)
				return err
			})
			measure("parse", func() error {
				_, err := run(context.Background(), f, pcapio.Budget{}, nothing{}, nil)
				return err
			})
			measure("digests", func() error {
				_, err := io.CopyBuffer(sums.New(), struct{ io.Reader }{f}, buf)
				return err
			})
			measure("all", func() error {
				_, err := File(context.Background(), f, Observer{})
				return err
			})
		})
	}
}

// BenchmarkParse parses a file that is in memory.
func BenchmarkParse(b *testing.B) {
	for _, format := range []pcapio.Format{pcapio.Pcap, pcapio.Pcapng} {
		b.Run(string(format), func(b *testing.B) {
			f := benchFile(b, format, 1500)
			data, err := os.ReadFile(f.Name())
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := run(context.Background(), bytes.NewReader(data), pcapio.Budget{}, nothing{}, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
