package tls_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	gotls "crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"capagent/enrich/indicator"
	"capagent/enrich/stream"
	"capagent/enrich/tls"
)

var _ stream.Parser = (*tls.Parser)(nil)

// piece is what one side sent at once.
type piece struct {
	from stream.Side
	b    []byte
}

// feed gives pieces to a parser, each as a frame of its own, and returns what was
// found and the parser's last verdict.
func feed(t *testing.T, pieces []piece) (*indicator.Set, stream.Verdict) {
	t.Helper()
	set := indicator.New()
	p := tls.New(set, stream.Conn{})
	verdict := stream.More
	for i, piece := range pieces {
		if verdict = p.Data(piece.from, piece.b, indicator.At{Frame: int64(i + 1)}); verdict != stream.More {
			break
		}
	}
	p.Close(indicator.At{})
	if used := set.Used(); used != 0 {
		t.Errorf("%d bytes were not given back", used)
	}
	return set, verdict
}

// cut cuts pieces into those of n bytes.
func cut(pieces []piece, n int) []piece {
	var out []piece
	for _, p := range pieces {
		for b := p.b; len(b) > 0; {
			k := min(n, len(b))
			out = append(out, piece{p.from, b[:k]})
			b = b[k:]
		}
	}
	return out
}

// values is seen without frames.
func values(set *indicator.Set) []string {
	list := seen(set)
	for i := range list {
		_, list[i], _ = strings.Cut(list[i], " ")
	}
	return list
}

func newCertificate(t testing.TB, name string) gotls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Unix(1<<33, 0), DNSNames: []string{name}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return gotls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// sniffed is a connection whose written bytes are kept.
type sniffed struct {
	net.Conn
	from stream.Side
	mu   *sync.Mutex
	all  *[]piece
}

func (s sniffed) Write(b []byte) (int, error) {
	s.mu.Lock()
	*s.all = append(*s.all, piece{s.from, bytes.Clone(b)})
	s.mu.Unlock()
	return s.Conn.Write(b)
}

// talk has Go's own TLS say hello over TCP, and returns what was sent.
func talk(t testing.TB, client, server *gotls.Config) []piece {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	var all []piece
	var mu sync.Mutex
	done := make(chan error, 1)
	go func() {
		s := gotls.Server(sniffed{b, stream.Server, &mu, &all}, server)
		if _, err := s.Write([]byte("hello")); err != nil {
			done <- err
			return
		}
		done <- nil
	}()
	c := gotls.Client(sniffed{a, stream.Client, &mu, &all}, client)
	if _, err := c.Read(make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	a.Close()
	b.Close()
	mu.Lock()
	defer mu.Unlock()
	return all
}

func certificateLines(frame string, c gotls.Certificate, role string) []string {
	var out []string
	for _, der := range c.Certificate {
		out = append(out, fmt.Sprintf("%scertificate %x %s x1", frame, sha1.Sum(der), role), fmt.Sprintf("%scertificate %x %s x1", frame, sha256.Sum256(der), role))
	}
	return out
}

func config(version uint16, server, client gotls.Certificate) (c, s *gotls.Config) {
	c = &gotls.Config{ServerName: "www.example.com", InsecureSkipVerify: true, MinVersion: version, MaxVersion: version, Certificates: []gotls.Certificate{client}}
	s = &gotls.Config{Certificates: []gotls.Certificate{server}, ClientAuth: gotls.RequireAnyClientCert, MinVersion: version, MaxVersion: version}
	return c, s
}

func TestHandshakeOfTLS12(t *testing.T) {
	server, client := newCertificate(t, "www.example.com"), newCertificate(t, "someone")
	pieces := talk(t, firstOf(config(gotls.VersionTLS12, server, client)), secondOf(config(gotls.VersionTLS12, server, client)))
	set, verdict := feed(t, pieces)
	if verdict != stream.Done {
		t.Errorf("verdict %v", verdict)
	}
	list := seen(set)
	if len(list) != 7 || list[0] != "1 host www.example.com tls.client x1" {
		t.Fatalf("%q", list)
	}
	want := append(certificateLines("2 ", server, "tls.server"), certificateLines("3 ", client, "tls.client_certificate")...)
	if diff := cmp.Diff(want, list[1:5]); diff != "" {
		t.Error(diff)
	}
	whole := values(set)
	for _, n := range []int{1, 2, 3, 5, 6, 7, 100, 1460} {
		set, verdict := feed(t, cut(pieces, n))
		if diff := cmp.Diff(whole, values(set)); diff != "" || verdict != stream.Done {
			t.Errorf("in pieces of %d: verdict %v, %s", n, verdict, diff)
		}
	}
}

func firstOf[T any](a, _ T) T  { return a }
func secondOf[T any](_, b T) T { return b }

func TestHandshakeOfTLS13(t *testing.T) {
	server, client := newCertificate(t, "www.example.com"), newCertificate(t, "someone")
	for name, tc := range map[string]struct {
		change func(client, server *gotls.Config)
		hellos int
	}{
		"at once": {func(_, _ *gotls.Config) {}, 1},
		"with a HelloRetryRequest": {func(c, s *gotls.Config) {
			c.CurvePreferences = []gotls.CurveID{gotls.X25519, gotls.CurveP384}
			s.CurvePreferences = []gotls.CurveID{gotls.CurveP384}
		}, 2},
	} {
		c, s := config(gotls.VersionTLS13, server, client)
		tc.change(c, s)
		pieces := talk(t, c, s)
		set, verdict := feed(t, pieces)
		want := fmt.Sprintf("host www.example.com tls.client x%d", tc.hellos)
		if list := values(set); verdict != stream.Done || len(list) < 3 || list[0] != want || strings.Contains(fmt.Sprint(list), "certificate") {
			t.Errorf("%s: verdict %v, %q", name, verdict, list)
		}
		for _, n := range []int{1, 5, 9} {
			again, verdict := feed(t, cut(pieces, n))
			if diff := cmp.Diff(values(set), values(again)); diff != "" || verdict != stream.Done {
				t.Errorf("%s, in pieces of %d: verdict %v, %s", name, n, verdict, diff)
			}
		}
		var sides [2][]piece // one alone, as where only one direction was captured
		for _, p := range pieces {
			sides[p.from] = append(sides[p.from], p)
		}
		if set, _ := feed(t, sides[stream.Client]); values(set)[0] != want {
			t.Errorf("%s, the client alone: %q", name, values(set))
		}
		if set, _ := feed(t, append(sides[stream.Server], sides[stream.Client]...)); values(set)[0] != want {
			t.Errorf("%s, the server first: %q", name, values(set))
		}
	}
}

// Wireshark shows a message in the frame in which its record is whole.
func TestFrameIsThatOfTheRecordsEnd(t *testing.T) {
	one := message(1, chrome().body())
	for name, tc := range map[string]struct {
		pieces []piece
		frame  string
	}{
		"one record":             {[]piece{{0, records(one, 1<<14)}}, "1 "},
		"message before the end": {split(records(append(one, message(99, make([]byte, 50))...), 1<<14), len(one)+20), "2 "},
		"two records":            {split(records(one, 100), 110), "2 "},
		"two records, cut in the head of the second": {split(records(one, 100), 107), "2 "},
	} {
		set, _ := feed(t, tc.pieces)
		if got := seen(set); len(got) != 3 || !strings.HasPrefix(got[0], tc.frame) {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func split(b []byte, at int) []piece { return []piece{{0, b[:at]}, {0, b[at:]}} }

func TestManyMessagesInARecord(t *testing.T) {
	certificates := []byte{0, 0, 10, 0, 0, 1, 'a', 0, 0, 3, 'b', 'c', 'd'}
	flight := concat(message(2, serverHello12()), message(22, make([]byte, 300)), message(11, certificates), message(12, nil), message(14, nil))
	for _, size := range []int{1, 4, 50, 1 << 14} {
		set, _ := feed(t, []piece{{stream.Server, records(flight, size)}})
		if got := values(set); len(got) != 4 || !strings.HasSuffix(got[0], " tls.server x1") {
			t.Errorf("records of %d: %q", size, got)
		}
	}
}

func concat(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func serverHello12() []byte {
	b := append([]byte{3, 3}, make([]byte, 32)...)
	return append(b, 0, 0xc0, 0x2f, 0)
}

func TestSSL2HelloIsPassedOver(t *testing.T) {
	old := append([]byte{0x80, 0x2e, 1, 3, 1, 0, 0x15, 0, 0, 0, 0x10}, make([]byte, 0x25)...)
	if !tls.Recognise(stream.Client, old) {
		t.Error("not recognised")
	}
	own := message(11, []byte{0, 0, 4, 0, 0, 1, 'a'})
	set, _ := feed(t, []piece{{0, append(bytes.Clone(old), records(own, 1000)...)}})
	if got := values(set); len(got) != 2 || !strings.HasSuffix(got[0], " tls.client_certificate x1") {
		t.Errorf("%q", got)
	}
}

func TestNothingIsReadBehindTheEnd(t *testing.T) {
	hello := records(message(1, chrome().body()), 1<<14)
	certificates := records(message(11, []byte{0, 0, 4, 0, 0, 1, 'a'}), 1000)
	for name, tc := range map[string]struct {
		sent []byte
		want int
	}{
		"hello, certificates":                   {concat(hello, certificates), 5},
		"ChangeCipherSpec before certificates":  {concat(hello, []byte{20, 3, 3, 0, 1, 1}, certificates), 3},
		"application data before certificates":  {concat(hello, []byte{23, 3, 3, 0, 1, 1}, certificates), 3},
		"ClientKeyExchange before certificates": {concat(hello, records(message(16, []byte{1}), 100), certificates), 3},
		"an alert before certificates":          {concat(hello, []byte{21, 3, 3, 0, 2, 1, 1}, certificates), 5},
		"no TLS before certificates":            {concat(hello, []byte("GET /"), certificates), 3},
		"an empty record before certificates":   {concat(hello, []byte{22, 3, 3, 0, 0}, certificates), 5},
		"a record that is too long":             {concat(hello, []byte{22, 3, 3, 0xff, 0xff}, certificates), 3},
	} {
		set, _ := feed(t, []piece{{0, tc.sent}})
		if got := values(set); len(got) != tc.want {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestGaps(t *testing.T) {
	hello := records(message(1, chrome().body()), 1<<14)
	certificates := records(message(11, []byte{0, 0, 4, 0, 0, 1, 'a'}), 1000)
	for name, tc := range map[string]struct {
		before []byte
		gap    int64
		after  []byte
		want   int
	}{
		"between records":           {nil, 1000, hello, 3},
		"of unknown length between": {nil, 0, hello, 3},
		"in a record":               {hello[:50], int64(len(hello) - 60), concat(hello[len(hello)-10:], certificates), 2},
		"to the end of a record":    {hello[:50], int64(len(hello) - 50), certificates, 2},
		"beyond a record":           {hello[:50], int64(len(hello) - 49), certificates[1:], 0},
		"of unknown length":         {hello[:50], 0, certificates, 0},
		"in the head of a record":   {hello[:3], 1, concat(hello[4:], certificates), 0},
	} {
		set := indicator.New()
		p := tls.New(set, stream.Conn{})
		p.Data(stream.Server, tc.before, indicator.At{Frame: 1})
		p.Gap(stream.Server, tc.gap, indicator.At{Frame: 2})
		p.Data(stream.Server, tc.after, indicator.At{Frame: 3})
		p.End(stream.Server, indicator.At{Frame: 4})
		if got := seen(set); len(got) != tc.want || set.Used() != 0 {
			t.Errorf("%s: %q, %d bytes", name, got, set.Used())
		}
	}
}

func TestLongMessagesArePassedOverAndCounted(t *testing.T) {
	long := append([]byte{11, 4, 0, 1}, make([]byte, 4<<16+1)...)
	set, _ := feed(t, []piece{{1, concat(records(long, 1<<14), records(message(1, chrome().body()), 1<<14))}})
	if diff := cmp.Diff(map[indicator.Limit]int64{tls.LimitMessage: 1}, set.Limits()); diff != "" || len(values(set)) != 3 {
		t.Errorf("%s%q", diff, values(set))
	}

	set = indicator.New()
	set.Take(indicator.MaxMemory, "") // nothing is left
	p := tls.New(set, stream.Conn{})
	for i, piece := range split(records(message(1, chrome().body()), 1<<14), 100) {
		p.Data(0, piece.b, indicator.At{Frame: int64(i)})
	}
	p.Data(0, records(message(1, chrome().body()), 1<<14), indicator.At{Frame: 9})
	p.Close(indicator.At{})
	if got := values(set); set.Used() != indicator.MaxMemory || set.Limits()[tls.LimitMessage] != 1 || len(got) != 3 {
		t.Errorf("%d, %v, %q", set.Used(), set.Limits(), got)
	}
}

func TestRecognise(t *testing.T) {
	hello := records(message(1, chrome().body()), 1<<14)
	for n := range hello {
		if tls.Recognise(stream.Client, hello[:n]) != (n > 0) {
			t.Errorf("the first %d bytes: %v", n, n == 0)
		}
	}
	for name, b := range map[string][]byte{
		"server": records(message(2, serverHello12()), 100), "certificates": records(message(11, nil), 100),
	} {
		if !tls.Recognise(stream.Server, b) {
			t.Errorf("%s: not recognised", name)
		}
	}
	for name, b := range map[string][]byte{
		"HTTP": []byte("GET / HTTP/1.1\r\n"), "alert": {21, 3, 1, 0, 2, 1, 1}, "data": {23, 3, 3, 0, 99, 1, 1}, "version": {22, 4, 1, 0, 99, 1},
		"length": {22, 3, 1, 0xff, 0xff, 1}, "message": {22, 3, 1, 0, 99, 16}, "one high byte": {0x80}, "high bytes": {0x80, 0x2e, 2, 3, 1, 0},
	} {
		if tls.Recognise(stream.Client, b) {
			t.Errorf("%s: recognised", name)
		}
	}
}

// Of a connection's side that has nothing more to say, Data costs nothing.
func TestFinishedSideCostsNoMemory(t *testing.T) {
	set := indicator.New()
	p := tls.New(set, stream.Conn{})
	p.Data(0, []byte{23, 3, 3, 1, 0}, indicator.At{})
	data := make([]byte, 1460)
	if n := testing.AllocsPerRun(100, func() { p.Data(0, data, indicator.At{}) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkHandshake(b *testing.B) {
	server, client := newCertificate(b, "www.example.com"), newCertificate(b, "someone")
	c, s := config(gotls.VersionTLS12, server, client)
	pieces := cut(talk(b, c, s), 1460)
	set := indicator.New()
	b.ReportAllocs()
	for b.Loop() {
		p := tls.New(set, stream.Conn{})
		for _, piece := range pieces {
			p.Data(piece.from, piece.b, indicator.At{Frame: 1})
		}
		p.Close(indicator.At{})
	}
}

// FuzzRecords feeds two sides in two ways: each at once, and in pieces.
func FuzzRecords(f *testing.F) {
	hello := records(message(1, chrome().body()), 1<<14)
	flight := concat(message(2, serverHello12()), message(11, []byte{0, 0, 4, 0, 0, 1, 'a'}), message(14, nil))
	f.Add(hello, records(flight, 1<<14), uint16(7))
	f.Add(records(message(1, chrome().body()), 40), records(flight, 9), uint16(1))
	f.Add(concat(hello, []byte{20, 3, 3, 0, 1, 1}, hello, []byte{23, 3, 3, 0, 1, 1}), []byte{21, 3, 1, 0, 2, 1, 1}, uint16(100))
	f.Add([]byte{0x80, 0x2e, 1, 3, 1, 0, 0x15, 0, 0, 0, 0x10}, records([]byte{11, 0xff, 0xff, 0xff, 1}, 3), uint16(2))
	f.Fuzz(func(t *testing.T, client, server []byte, n uint16) {
		all := []piece{{stream.Client, client}, {stream.Server, server}}
		whole, _ := feed(t, all)
		pieces, _ := feed(t, cut(all, int(n)+1))
		if diff := cmp.Diff(values(whole), values(pieces)); diff != "" {
			t.Error(diff)
		}
	})
}
