package tls_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/cryptobyte"

	"capagent/enrich/indicator"
	"capagent/enrich/tls"
)

// hello is a ClientHello to build.
type hello struct {
	version    uint16
	ciphers    []uint16
	extensions []extension // nil: no block of extensions
	cookie     []byte      // DTLS, not nil
}

type extension struct {
	kind uint16
	data []byte
}

func (h hello) body() []byte {
	var b cryptobyte.Builder
	b.AddUint16(h.version)
	b.AddBytes(make([]byte, 32))
	b.AddUint8(0)
	if h.cookie != nil {
		b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(h.cookie) })
	}
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(words(h.ciphers...)) })
	b.AddBytes([]byte{1, 0})
	if h.extensions != nil {
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
			for _, e := range h.extensions {
				b.AddUint16(e.kind)
				b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(e.data) })
			}
		})
	}
	return b.BytesOrPanic()
}

// message puts a handshake header in front.
func message(kind byte, body []byte) []byte {
	return append([]byte{kind, byte(len(body) >> 16), byte(len(body) >> 8), byte(len(body))}, body...)
}

// records cuts handshake messages into records.
func records(messages []byte, size int) []byte {
	var out []byte
	for len(messages) > 0 {
		n := min(size, len(messages))
		out = append(append(out, 22, 3, 1, byte(n>>8), byte(n)), messages[:n]...)
		messages = messages[n:]
	}
	return out
}

func words(list ...uint16) []byte {
	var b []byte
	for _, v := range list {
		b = append(b, byte(v>>8), byte(v))
	}
	return b
}

func list16(b []byte) []byte { return append([]byte{byte(len(b) >> 8), byte(len(b))}, b...) }
func list8(b []byte) []byte  { return append([]byte{byte(len(b))}, b...) }

func sni(name string) extension {
	return extension{0, list16(append([]byte{0}, list16([]byte(name))...))}
}

func groups(list ...uint16) extension {
	return extension{10, list16(words(list...))}
}
func formats(list ...byte) extension { return extension{11, list8(list)} }
func algorithms(list ...uint16) extension {
	return extension{13, list16(words(list...))}
}
func alpn(first string) extension       { return extension{16, list16(list8([]byte(first)))} }
func versions(list ...uint16) extension { return extension{43, list8(words(list...))} }

func seen(set *indicator.Set) []string {
	list := []string{}
	for _, i := range set.List() {
		list = append(list, fmt.Sprintf("%d %s %s %s x%d", i.First.Frame, i.Type, i.Value, strings.Join(i.Role.Names(), ","), i.Count))
	}
	return list
}

func one(t *testing.T, h hello, role indicator.Role) (ja3, ja4 string) {
	t.Helper()
	set := indicator.New()
	if !tls.ClientHello(set, h.body(), role, indicator.At{Frame: 1}) {
		t.Fatal("not taken for a hello")
	}
	for _, i := range set.List() {
		switch i.Type {
		case indicator.JA3:
			ja3 = i.Value
		case indicator.JA4:
			ja4 = i.Value
		}
	}
	return ja3, ja4
}

// The two examples of https://github.com/salesforce/ja3, and the first with GREASE
// in every list.
func TestJA3(t *testing.T) {
	ciphers := []uint16{47, 53, 5, 10, 49161, 49162, 49171, 49172, 50, 56, 19, 4}
	for name, tc := range map[string]struct {
		hello hello
		want  string
	}{
		"with extensions": {
			hello{version: 769, ciphers: ciphers, extensions: []extension{sni("a.example"), groups(23, 24, 25), formats(0)}},
			"ada70206e40642a3e4461f35503241d5",
		},
		"without": {
			hello{version: 769, ciphers: []uint16{4, 5, 10, 9, 100, 98, 3, 6, 19, 18, 99}},
			"de350869b8c85de67a350c8d186f11e6",
		},
		"with GREASE": {
			hello{version: 769, ciphers: append([]uint16{0x0a0a}, ciphers...), extensions: []extension{
				{0x1a1a, nil}, sni("a.example"), groups(0xfafa, 23, 24, 25), formats(0), {0xcaca, []byte{0}},
			}},
			"ada70206e40642a3e4461f35503241d5",
		},
	} {
		if got, _ := one(t, tc.hello, indicator.TLSClient); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}

// chrome is the example of FoxIO's technical_details/JA4.md.
func chrome() hello {
	return hello{
		version: 0x0303,
		ciphers: []uint16{
			0x5a5a, 0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013, 0xc014,
			0x009c, 0x009d, 0x002f, 0x0035,
		},
		extensions: []extension{
			{0x3a3a, nil},
			{0x001b, nil},
			sni("www.example.com"),
			{0x0033, nil},
			alpn("h2"),
			{0x4469, nil},
			{0x0017, nil},
			{0x002d, nil},
			algorithms(0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601),
			{0x0005, nil},
			{0x0023, nil},
			{0x0012, nil},
			versions(0x7a7a, 0x0304, 0x0303),
			{0xff01, nil},
			{0x000a, nil},
			{0x000b, nil},
			{0x0015, nil},
		},
	}
}

func TestJA4(t *testing.T) {
	without := func(kinds ...uint16) hello {
		h := chrome()
		var kept []extension
		for _, e := range h.extensions {
			if !strings.Contains(fmt.Sprint(kinds), fmt.Sprint(e.kind)) {
				kept = append(kept, e)
			}
		}
		h.extensions = kept
		return h
	}
	many := hello{version: 0x0302, extensions: []extension{}}
	for i := range uint16(120) {
		many.ciphers = append(many.ciphers, i)
	}
	for name, tc := range map[string]struct {
		hello hello
		role  indicator.Role
		want  string
	}{
		"example":          {chrome(), indicator.TLSClient, "t13d1516h2_8daaf6152771_e5627efa2ab1"},
		"QUIC":             {chrome(), indicator.QUICClient, "q13d1516h2_8daaf6152771_e5627efa2ab1"},
		"no name":          {without(0), indicator.TLSClient, "t13i1515h2_8daaf6152771_e5627efa2ab1"},
		"no ALPN":          {without(16), indicator.TLSClient, "t13d151500_8daaf6152771_e5627efa2ab1"},
		"no 1.3":           {without(43), indicator.TLSClient, "t12d1515h2_8daaf6152771_"},
		"nothing":          {hello{version: 0x0300}, indicator.TLSClient, "ts3i000000_000000000000_000000000000"},
		"many":             {many, indicator.TLSClient, "t11i990000_"},
		"DTLS 1.2":         {hello{version: 0xfefd, cookie: []byte{}}, indicator.DTLSClient, "dd2i000000_000000000000_000000000000"},
		"DTLS 1.3":         {hello{version: 0xfefd, cookie: []byte{}, extensions: []extension{versions(0xfefc)}}, indicator.DTLSClient, "dd3i000100_000000000000_"},
		"DTLS 1.3 and 1.2": {hello{version: 0xfefd, cookie: []byte{}, extensions: []extension{versions(0xfefd, 0xfefc)}}, indicator.DTLSClient, "dd2i000100_000000000000_"},
		"a draft":          {hello{version: 0x0303, extensions: []extension{versions(0x7f1c, 0x0303)}}, indicator.TLSClient, "t00i000100_000000000000_"},
		"only a name":      {hello{version: 0x0303, extensions: []extension{sni("a.example"), alpn("h2")}}, indicator.TLSClient, "t12d0002h2_000000000000_000000000000"},
		"GREASE first":     {hello{version: 0x0303, extensions: []extension{alpn("\x0a\x0a")}}, indicator.TLSClient, "t12i00010a_000000000000_000000000000"},
	} {
		if _, got := one(t, tc.hello, tc.role); !strings.HasPrefix(got, tc.want) || len(got) != 36 {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
	// The sums that the specification gives for the lists without and with algorithms.
	if _, got := one(t, without(13), indicator.TLSClient); !strings.HasSuffix(got, "_8daaf6152771_"+extensionsWithout13) {
		t.Errorf("no algorithms: %s", got)
	}
}

// extensionsWithout13 is the SHA-256, cut to 12 digits, of
// 0005,000a,000b,0012,0015,0017,001b,0023,002b,002d,0033,4469,ff01 (sha256sum).
const extensionsWithout13 = "bebfbbe173b2"

func TestJA4OfALPN(t *testing.T) {
	for protocol, want := range map[string]string{
		"h2": "h2", "http/1.1": "h1", "h": "hh", "": "00", "\xab": "ab", " ": "20", "\xab\xcd": "ad", " a": "21",
		"0\xab": "3b", "a ": "60", "01\xab\xcd": "3d", "0\xab\xcd1": "01",
	} {
		_, got := one(t, hello{version: 0x0303, extensions: []extension{alpn(protocol)}}, indicator.TLSClient)
		if got[8:10] != want {
			t.Errorf("%q: %s in %s, want %s", protocol, got[8:10], got, want)
		}
	}
}

func TestServerName(t *testing.T) {
	for name, tc := range map[string]struct {
		extensions []extension
		want       []string
	}{
		"a name":             {[]extension{sni("WWW.Example.com.")}, []string{"1 host www.example.com tls.client x1"}},
		"an address":         {[]extension{sni("192.0.2.1")}, []string{"1 address 192.0.2.1 tls.client x1"}},
		"another kind":       {[]extension{{0, list16(append([]byte{1}, list16([]byte("x"))...))}}, nil},
		"an empty name":      {[]extension{sni("")}, nil},
		"an empty extension": {[]extension{{0, nil}}, nil},
		"a damaged one":      {[]extension{{0, []byte{0, 9, 0, 0, 200, 'a'}}}, nil},
	} {
		set := indicator.New()
		if !tls.ClientHello(set, hello{version: 0x0303, extensions: tc.extensions}.body(), indicator.TLSClient, indicator.At{Frame: 1}) {
			t.Errorf("%s: not taken for a hello", name)
		}
		var got []string
		for _, line := range seen(set) {
			if strings.Contains(line, " host ") || strings.Contains(line, " address ") {
				got = append(got, line)
			}
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestWhatIsNoHelloGivesNothing(t *testing.T) {
	whole := chrome().body()
	set := indicator.New()
	for n := range whole {
		if n == 71 { // SSL 3.0 has no extensions
			continue
		}
		if tls.ClientHello(set, whole[:n], indicator.TLSClient, indicator.At{}) {
			t.Errorf("%d bytes of %d are taken for a hello", n, len(whole))
		}
	}
	if got := seen(set); len(got) != 0 {
		t.Errorf("%q", got)
	}
}

func TestKnownHelloCostsNoMemory(t *testing.T) {
	set := indicator.New()
	body := chrome().body()
	if n := testing.AllocsPerRun(100, func() { tls.ClientHello(set, body, indicator.TLSClient, indicator.At{Frame: 1}) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkClientHello(b *testing.B) {
	set := indicator.New()
	body := chrome().body()
	b.ReportAllocs()
	for b.Loop() {
		tls.ClientHello(set, body, indicator.TLSClient, indicator.At{Frame: 1})
	}
}

func FuzzClientHello(f *testing.F) {
	f.Add(chrome().body(), uint8(0))
	f.Add(hello{version: 0x0300, ciphers: []uint16{4}}.body(), uint8(0))
	f.Add(hello{version: 0xfefd, ciphers: []uint16{4}, cookie: []byte("cookie")}.body(), uint8(2))
	f.Fuzz(func(t *testing.T, body []byte, kind uint8) {
		role := []indicator.Role{indicator.TLSClient, indicator.QUICClient, indicator.DTLSClient}[kind%3]
		set := indicator.New()
		ok := tls.ClientHello(set, body, role, indicator.At{Frame: 1})
		count := map[indicator.Type]int{}
		for _, i := range set.List() {
			count[i.Type]++
			if i.Type == indicator.JA4 && len(i.Value) != 36 {
				t.Errorf("%q", i.Value)
			}
		}
		if want := map[bool]int{true: 1}[ok]; count[indicator.JA3] != want || count[indicator.JA4] != want {
			t.Errorf("%v: %v", ok, count)
		}
	})
}
