package cloudsharktest

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// Whatever a packet holds, its line on the page is short, printable text.
func FuzzDissect(f *testing.F) {
	f.Add(packet(1, 100), 1)
	f.Add([]byte{0x60}, 101)
	f.Add(bytes.Repeat([]byte{0xff}, 60), 113)
	f.Add(append(make([]byte, 14), 22, 3, 1, 0, 5, 1, 0, 0, 1, 0), 276)
	dns := packet(1, 120)
	copy(dns[36:], []byte{0, 53, 0, 86, 0, 0, 0x1a, 0x2b, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0, 1, 'a', 0, 0, 1, 0, 1, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 1, 2, 3, 4})
	f.Add(dns, 1)
	f.Fuzz(func(t *testing.T, data []byte, link int) {
		r := dissect(data, link)
		for _, text := range []string{r.Source, r.Destination, r.Protocol, r.Info} {
			if !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) && r != '\u200d' }) {
				t.Errorf("%+q", text)
			}
		}
		if r.Protocol == "" || utf8.RuneCountInString(r.Info) > maxInfo+1 {
			t.Errorf("%+v", r)
		}
		if isTLS(data) {
			_ = tlsInfo(data)
		}
	})
}

// Whatever a capture holds, reading its beginning ends well.
func FuzzSummarise(f *testing.F) {
	files, _ := filepath.Glob("../../internal/pcapio/testdata/corpus/*/*")
	for _, file := range files {
		if data, err := os.ReadFile(file); err == nil && len(data) < 4096 {
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s := summarise(bytes.NewReader(data), nil)
		if int64(len(s.Rows)) != min(s.Seen, shownPackets) {
			t.Errorf("%d rows of %d packets", len(s.Rows), s.Seen)
		}
	})
}

func FuzzParseFault(f *testing.F) {
	f.Add("busy:times=2,retry_after=Wed, 21 Oct 2099 07:28:00 GMT")
	f.Add("status:code=422,text=a,b,text=c")
	f.Add("slow:bytes=1,delay=1s,early=1")
	f.Fuzz(func(t *testing.T, text string) {
		fault, err := ParseFault(text)
		if err == nil && (faultKinds[fault.Name].meaning == "" || fault.Times < 0 || fault.Bytes < 0 || fault.Delay < 0) {
			t.Errorf("%q: %+v", text, fault)
		}
	})
}

// The page's count of thousands reads back as the number.
func TestCountsReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Min(0).Draw(t, "n")
		text := countText(n)
		parts := strings.Split(text, ",")
		for i, p := range parts {
			if len(p) > 3 || i > 0 && len(p) != 3 || p == "" {
				t.Fatalf("%d: %s", n, text)
			}
		}
	})
}

// Any division of a capture into writes gives the same judgement.
func TestTheCheckDoesNotCareHowBytesArrive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		data := pcap(rapid.IntRange(0, 20).Draw(t, "packets"), rapid.IntRange(60, 2000).Draw(t, "size"))
		cut := rapid.IntRange(0, len(data)).Draw(t, "cut")
		whole, wholeErr := check(data[:cut])
		c := newChecker()
		for rest := data[:cut]; len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "piece")
			_, _ = c.Write(rest[:n])
			rest = rest[n:]
		}
		if err := c.finish(); (err == nil) != (wholeErr == nil) || c.facts != whole {
			t.Fatalf("%+v %v, in one piece %+v %v", c.facts, err, whole, wholeErr)
		}
	})
}
