package inspect

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"capagent/internal/ledger"
	"capagent/internal/pcapio"

	"github.com/google/go-cmp/cmp"
)

const corpus = "../pcapio/testdata/corpus"

func load(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(corpus, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestWhatIsRecordedOfAFile(t *testing.T) {
	at := func(sec, nsec int64) time.Time { return time.Unix(sec, nsec).UTC() }
	const t0 = 1700000000
	tests := map[string]ledger.Inspection{
		"good/pcap-little-micro.pcap": {
			Format: "pcap", Packets: 3, PacketBytes: 52 + 742 + 42,
			First: at(t0, 1000), Last: at(t0+1, 0), LinkTypes: []string{"EN10MB"}, Interfaces: 1,
		},
		"good/pcap-big-nano.pcap": {
			Format: "pcap", Packets: 3, PacketBytes: 52 + 742 + 42,
			First: at(t0, 1), Last: at(t0+1, 0), LinkTypes: []string{"EN10MB"}, Interfaces: 1,
		},
		"good/pcap-little-no-packets.pcap":    {Format: "pcap", LinkTypes: []string{"EN10MB"}, Interfaces: 1},
		"good/pcapng-big-section-only.pcapng": {Format: "pcapng"},
		"good/pcap-little-disorder.pcap": {
			Format: "pcap", Packets: 3, PacketBytes: 43 + 44 + 45, Disorder: 1,
			First: at(t0, 0), Last: at(t0+2, 0), LinkTypes: []string{"EN10MB"}, Interfaces: 1,
		},
		"good/pcapng-little-two-sections.pcapng": {
			Format: "pcapng", Packets: 3, PacketBytes: 47 + 48 + 49 - 14, Disorder: 1,
			First: at(t0, 0), Last: at(t0, 1000), LinkTypes: []string{"EN10MB", "RAW"}, Interfaces: 3,
		},
		"good/pcapng-little-simple.pcapng": {
			Format: "pcapng", Packets: 2, PacketBytes: 93, LinkTypes: []string{"EN10MB"}, Interfaces: 1,
		},
		"good/gzip-two-members.pcap.gz": {
			Format: "pcap", Wrapper: "gzip", PayloadSize: 170, Packets: 2, PacketBytes: 114,
			First: at(t0, 1000), Last: at(t0+1, 2000), LinkTypes: []string{"EN10MB"}, Interfaces: 1,
		},
		"hostile/gzip-then-garbage.pcap.gz": {
			Format: "pcap", Wrapper: "gzip", PayloadSize: 170, Packets: 2, PacketBytes: 114,
			First: at(t0, 1000), Last: at(t0+1, 2000), LinkTypes: []string{"EN10MB"}, Interfaces: 1,
			Note: "bytes after the end of the gzip data were ignored",
		},
		"hostile/gzip-cut-in-the-trailer.pcap.gz": {
			Format: "pcap", Wrapper: "gzip", PayloadSize: 170, Packets: 2, PacketBytes: 114,
			First: at(t0, 1000), Last: at(t0+1, 2000), LinkTypes: []string{"EN10MB"}, Interfaces: 1,
			Truncated: true, Note: "cut short: the compressed data ends early, after 170 bytes of content",
		},
		"hostile/pcap-cut-in-a-packet.pcap": {
			Format: "pcap", Packets: 1, PacketBytes: 43, First: at(t0, 0), Last: at(t0, 0),
			LinkTypes: []string{"EN10MB"}, Interfaces: 1,
			Truncated: true, Note: "cut short: ends after 102 bytes, inside the record at byte 83",
		},
		"hostile/pcap-corrupt-in-the-middle.pcap": {
			Format: "pcap", Packets: 1, PacketBytes: 43, First: at(t0, 0), Last: at(t0, 0),
			LinkTypes: []string{"EN10MB"}, Interfaces: 1,
			Note: "damaged at byte 83: a packet of 4294967295 bytes, more than the 262144 that its link type can have",
		},
	}
	for name, want := range tests {
		t.Run(name, func(t *testing.T) {
			data := load(t, name)
			want.Size = int64(len(data))
			if want.PayloadSize == 0 {
				want.PayloadSize = want.Size
			}
			want.SHA256, want.SHA1 = fmt.Sprintf("%x", sha256.Sum256(data)), fmt.Sprintf("%x", sha1.Sum(data))
			f, err := os.Open(filepath.Join(corpus, name))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			_, _ = f.Seek(7, 0) // File starts at the beginning all the same
			got, err := File(t.Context(), f, Observer{})
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("-want +got\n%s", d)
			}
		})
	}
}

func TestEveryFileOfTheCorpusIsHashedToItsEnd(t *testing.T) {
	err := filepath.WalkDir(corpus, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		got, err := Reader(t.Context(), bytes.NewReader(data), pcapio.Budget{Free: 16 << 20}, nil)
		if got.Size != int64(len(data)) || got.SHA256 != fmt.Sprintf("%x", sha256.Sum256(data)) || got.SHA1 != fmt.Sprintf("%x", sha1.Sum(data)) {
			t.Errorf("%s: size %d of %d, or a digest is wrong", path, got.Size, len(data))
		}
		if err != nil && !errors.Is(err, pcapio.ErrNotCapture) && !errors.Is(err, pcapio.ErrOverBudget) {
			t.Errorf("%s: %v", path, err)
		}
		if err != nil && got.Note == "" {
			t.Errorf("%s: no note about %v", path, err)
		}
		if strings.Contains(path, "/good/") && err != nil {
			t.Errorf("%s: %v", path, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestWhatIsNoCaptureIsSaidInWords(t *testing.T) {
	tests := map[string]string{
		"hostile/empty.pcap":            `not a capture file: empty file (0 bytes)`,
		"hostile/zip.pcap":              `not a capture file: starts with "PK\x03\x04", a ZIP archive`,
		"hostile/text.pcap":             `not a capture file: starts with "\x1b[2Jtext"`,
		"hostile/zeros.pcap":            `not a capture file: starts with zero bytes`,
		"hostile/pcap-half-header.pcap": `not a capture file: pcap file header cut short after 12 bytes`,
		"hostile/gzip-in-gzip.gz":       `not a capture file: starts with "\x1f\x8b", gzip data`,
		"hostile/gzip-empty.gz":         `not a capture file: empty file (0 bytes)`,
	}
	for name, want := range tests {
		_, err := Reader(t.Context(), bytes.NewReader(load(t, name)), pcapio.Budget{}, nil)
		if err == nil || err.Error() != want || !errors.Is(err, pcapio.ErrNotCapture) {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}
}

func TestABombEndsWithItsBudget(t *testing.T) {
	data := load(t, "hostile/zstd-bomb.pcap.zst")
	got, err := Reader(t.Context(), bytes.NewReader(data), pcapio.Budget{Bytes: 1 << 20}, nil)
	var budget *pcapio.BudgetError
	if !errors.As(err, &budget) || got.Size != int64(len(data)) || got.PayloadSize > 2<<20 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestABombBehindDamageEndsWithItsBudget(t *testing.T) {
	var file bytes.Buffer
	z := gzip.NewWriter(&file)
	_, _ = z.Write(load(t, "hostile/pcap-claims-4g.pcap"))
	_, _ = z.Write(make([]byte, 4<<20))
	_ = z.Close()
	_, err := Reader(t.Context(), &file, pcapio.Budget{Bytes: 1 << 20}, nil)
	if !errors.Is(err, pcapio.ErrOverBudget) {
		t.Error(err)
	}
}

func TestAReadErrorIsReturned(t *testing.T) {
	broken := errors.New("input/output error")
	for _, name := range []string{"good/pcap-little-micro.pcap", "good/gzip.pcap", "good/zstd.pcap", "hostile/zip.pcap"} {
		data := load(t, name)
		for _, n := range []int{0, 3, 10, len(data)} {
			r := &failing{data: data[:n], err: broken}
			if _, err := Reader(t.Context(), r, pcapio.Budget{}, nil); !errors.Is(err, broken) {
				t.Errorf("%s after %d bytes: %v", name, n, err)
			}
		}
	}
}

type failing struct {
	data []byte
	err  error
}

func (f *failing) Read(p []byte) (int, error) {
	if len(f.data) == 0 {
		return 0, f.err
	}
	n := copy(p, f.data)
	f.data = f.data[n:]
	return n, nil
}

func TestItStopsWhenTheContextEnds(t *testing.T) {
	for _, name := range []string{"good/pcap-little-micro.pcap", "good/gzip.pcap", "hostile/zip.pcap"} {
		ctx, cancel := context.WithCancel(t.Context())
		r := iotest.OneByteReader(bytes.NewReader(load(t, name)))
		reads := 0
		_, err := Reader(ctx, readerFunc(func(p []byte) (int, error) {
			if reads++; reads == 10 {
				cancel()
			}
			return r.Read(p)
		}), pcapio.Budget{}, nil)
		cancel()
		if !errors.Is(err, context.Canceled) || reads != 10 {
			t.Errorf("%s: %v after %d reads", name, err, reads)
		}
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
