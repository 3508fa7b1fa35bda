package sums

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// engines are all that can run here, the one that New picks first.
func engines() map[string]func() engine {
	return map[string]func() engine{
		"picked": newEngine,
		"twice":  func() engine { return newTwice() },
	}
}

func randomBytes(n int) []byte {
	p := make([]byte, n)
	src := rand.NewChaCha8([32]byte{1})
	_, _ = src.Read(p)
	return p
}

func check(t interface {
	Helper()
	Errorf(string, ...any)
}, name string, s *Pair, stream []byte,
) {
	t.Helper()
	want256, want1 := sha256.Sum256(stream), sha1.Sum(stream)
	if got := s.SHA256(); got != hex.EncodeToString(want256[:]) {
		t.Errorf("%s: SHA-256 of %d bytes = %s, want %x", name, len(stream), got, want256)
	}
	if got := s.SHA1(); got != hex.EncodeToString(want1[:]) {
		t.Errorf("%s: SHA-1 of %d bytes = %s, want %x", name, len(stream), got, want1)
	}
}

func TestPairKnowsThePublishedVectors(t *testing.T) {
	// FIPS 180-4 examples: the empty message, one block, two blocks.
	for _, v := range []struct{ message, sha256, sha1 string }{
		{
			"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
			"da39a3ee5e6b4b0d3255bfef95601890afd80709",
		},
		{
			"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
			"a9993e364706816aba3e25717850c26c9cd0d89d",
		},
		{
			"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
			"248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
			"84983e441c3bd26ebaae4aa1f95129e5e54670f1",
		},
	} {
		s := New()
		_, _ = s.Write([]byte(v.message))
		if s.SHA256() != v.sha256 || s.SHA1() != v.sha1 {
			t.Errorf("%q: got %s, %s", v.message, s.SHA256(), s.SHA1())
		}
	}
}

func TestEveryLengthAroundTheBlockSizeAgreesWithTheStandardLibrary(t *testing.T) {
	data := randomBytes(301)
	for name, newEngine := range engines() {
		whole, byByte := make([]byte, 0, len(data)), &Pair{newEngine()}
		for n := range data {
			s := &Pair{newEngine()}
			_, _ = s.Write(data[:n])
			check(t, name, s, data[:n])

			// Asking for a digest after every byte must not disturb the stream.
			check(t, name+" by byte", byByte, whole)
			whole = append(whole, data[n])
			_, _ = byByte.Write(data[n : n+1])
		}
	}
}

func TestAWriteLongerThanOneRunAgreesWithTheStandardLibrary(t *testing.T) {
	data := randomBytes(300<<10 + 17)
	for name, newEngine := range engines() {
		for _, start := range []int{0, 1, 7, 63, 64} { // also unaligned memory
			s := &Pair{newEngine()}
			_, _ = s.Write(data[start:])
			check(t, name, s, data[start:])
		}
	}
}

func TestAnySplitIntoWritesGivesTheSameSums(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 400), 0, 12).Draw(t, "parts")
		asked := rapid.SliceOfN(rapid.Bool(), len(parts), len(parts)).Draw(t, "asked")
		for name, newEngine := range engines() {
			s, stream := &Pair{newEngine()}, []byte(nil)
			for i, p := range parts {
				if n, err := s.Write(p); n != len(p) || err != nil {
					t.Fatalf("Write = %d, %v", n, err)
				}
				if stream = append(stream, p...); asked[i] {
					check(t, name, s, stream)
				}
			}
			check(t, name, s, stream)
		}
	})
}

func TestWriteDoesNotAllocate(t *testing.T) {
	data := randomBytes(1500)
	for name, newEngine := range engines() {
		s := &Pair{newEngine()}
		if n := testing.AllocsPerRun(100, func() { _, _ = s.Write(data) }); n != 0 {
			t.Errorf("%s: %v allocations per Write", name, n)
		}
	}
}

func TestSumsOfAFileAreThoseOfOpenSSL(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	path, data := filepath.Join(t.TempDir(), "file"), randomBytes(1<<20+3)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	s := New()
	_, _ = s.Write(data)
	for algorithm, got := range map[string]string{"-sha256": s.SHA256(), "-sha1": s.SHA1()} {
		out, err := exec.Command("openssl", "dgst", "-r", algorithm, path).Output()
		if err != nil {
			t.Fatal(err)
		}
		if want, _, _ := strings.Cut(string(out), " "); got != want {
			t.Errorf("openssl dgst %s = %s, got %s", algorithm, want, got)
		}
	}
}

func FuzzPairAgreesWithTheStandardLibrary(f *testing.F) {
	f.Add([]byte(nil), uint16(0), uint8(1))
	f.Add(bytes.Repeat([]byte("abc"), 100), uint16(55), uint8(3))
	f.Fuzz(func(t *testing.T, data []byte, cut uint16, repeat uint8) {
		n := min(int(cut), len(data))
		s, stream := New(), []byte(nil)
		for range repeat % 8 {
			_, _ = s.Write(data[:n])
			_, _ = s.Write(data[n:])
			stream = append(stream, data...)
		}
		check(t, "picked", s, stream)
	})
}

func BenchmarkWrite(b *testing.B) {
	for name, newEngine := range engines() {
		for _, size := range []int{1500, 64 << 10, 1 << 20} {
			data := randomBytes(size)
			b.Run(name+"/"+strconv.Itoa(size), func(b *testing.B) {
				s := &Pair{newEngine()}
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					_, _ = s.Write(data)
				}
			})
		}
	}
}
