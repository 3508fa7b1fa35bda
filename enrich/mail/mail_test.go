package mail_test

import (
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"capagent/enrich/indicator"
	"capagent/enrich/mail"
	"capagent/enrich/stream"
)

// found returns what is in a set, one line each; of a file's digests only the MD5.
func found(s *indicator.Set) []string {
	list := []string{}
	for _, i := range s.List() {
		if i.Type != indicator.File || len(i.Value) == 32 {
			list = append(list, fmt.Sprintf("%s %s %d", strings.Join(i.Role.Names(), ","), i.Value, i.Count))
		}
	}
	return list
}

func equal(t *testing.T, s *indicator.Set, want ...string) {
	t.Helper()
	if diff := cmp.Diff(append([]string{}, want...), found(s)); diff != "" {
		t.Error(diff)
	}
}

func sum(body string) string {
	m := md5.Sum([]byte(body))
	return "mail.body " + hex.EncodeToString(m[:]) + " 1"
}

// crlf gives text, written with \n, the line ends of the wire.
func crlf(text string) string { return strings.ReplaceAll(text, "\n", "\r\n") }

// send feeds the client's side in pieces of n bytes, frame by frame.
func send(s *indicator.Set, n int, client string) {
	p := mail.New(s, stream.Conn{})
	var at indicator.At
	for len(client) > 0 {
		at.Frame++
		piece := client[:min(n, len(client))]
		client = client[len(piece):]
		p.Data(stream.Client, []byte(piece), at)
	}
	p.End(stream.Client, at)
	p.Close(at)
}

func whole(client string) *indicator.Set {
	s := indicator.New()
	send(s, len(client)+1, crlf(client))
	return s
}

const envelope = "EHLO Client.example\nMAIL FROM:<joe@A.example> SIZE=100 AUTH=x@y.example\nRCPT TO:<ann@b.example>\nDATA\n"

func TestEnvelope(t *testing.T) {
	for name, c := range map[string]struct {
		client string
		want   []string
	}{
		"usual":        {"EHLO Client.example\nMAIL FROM:<joe@A.example> SIZE=1\nRCPT TO:<ann@b.example>\n", []string{"mail.host client.example 1", "mail.from joe@a.example 1", "mail.to ann@b.example 1"}},
		"small":        {"helo x.example more\nmail from: <joe@a.example>\nrcpt to:ann@b.example NOTIFY=x@y\n", []string{"mail.host x.example 1", "mail.from joe@a.example 1", "mail.to ann@b.example 1"}},
		"literal":      {"EHLO [192.0.2.1]\nHELO [IPv6:2001:db8::1]\nHELO 192.0.2.9\n", []string{"mail.host 192.0.2.1 1", "mail.host 2001:db8::1 1", "mail.host 192.0.2.9 1"}},
		"no names":     {"EHLO localhost\nEHLO\nEHLO []\nEHLO .\n", nil},
		"nobody":       {"MAIL FROM:<> AUTH=a@b.example\nRCPT TO:<postmaster>\nRCPT\nMAIL\n", nil},
		"source route": {"RCPT TO:<@a.example,@b.example:joe@c.example>\n", []string{"mail.to joe@c.example 1"}},
		"secrets":      {"AUTH PLAIN am9lQGEuZXhhbXBsZQ==\nAUTH LOGIN\njoe@a.example\nsecret@b.example\n", nil},
	} {
		if diff := cmp.Diff(append([]string{}, c.want...), found(whole(c.client))); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestAddressesOfAHeader(t *testing.T) {
	header := `Received: from x by y for <not@this.example>
From: "Joe, the \"boss@x.example\"" <joe@a.example> (private: old@a.example)
Sender:=?utf-8?Q?J=C3=B6@x.example?= <s@a.example>
TO: ann@b.example, Bob Miller <bob@b.example>,
	friends: carl@c.example, (comment (nested) x@y.example) <dora@c.example>;, undisclosed-recipients:;
Cc : 'eve@c.example'; "broken <fred@c.example>
Bcc: <@r.example:gina@c.example> , mailto:hugo@c.example
Reply-To: (open ian@c.example
Subject: not@here.example
From: =?utf-8?Q?kim@c.example?=
From: kim@c.example <lea@c.example>
`
	want := []string{
		"mail.from joe@a.example 2", "mail.to ann@b.example 2", // also of the envelope
		"mail.from s@a.example 1", "mail.to bob@b.example 1", "mail.to carl@c.example 1", "mail.to dora@c.example 1",
		"mail.to eve@c.example 1", "mail.to fred@c.example 1", "mail.to gina@c.example 1", "mail.to hugo@c.example 1",
		"mail.from ian@c.example 1", "mail.from lea@c.example 1",
	}
	got := found(whole(envelope + header + "\nFrom: body@x.example\n.\nQUIT\n"))
	if diff := cmp.Diff(append([]string{"mail.host client.example 1"}, want...), got); diff != "" {
		t.Error(diff)
	}
}

func TestAHeaderCountsWhenItsMessageEnds(t *testing.T) {
	head := crlf("DATA\nFrom: joe@a.example\n\ntext\n")
	for name, c := range map[string]struct {
		end   string
		frame int64
	}{"end": {".\r\n", 3}, "no end": {"more", 1}, "dot": {"..\r\n", 1}} {
		s := indicator.New()
		p := mail.New(s, stream.Conn{})
		p.Data(stream.Client, []byte(head), indicator.At{Frame: 1})
		p.Data(stream.Client, []byte("text\r\n"), indicator.At{Frame: 2})
		p.Data(stream.Client, []byte(c.end), indicator.At{Frame: 3})
		p.Close(indicator.At{Frame: 4})
		if l := s.List(); len(l) != 1 || l[0].First.Frame != c.frame {
			t.Errorf("%s: %+v", name, l)
		}
	}
}

// parts is a message with attachments of every kind; digests of what is in them
// follow.
const parts = `MIME-Version: 1.0
Content-Type: Multipart/Mixed; charset=x;
 boundary="a b"

preamble
--a b
Content-Type: multipart/alternative; boundary=inner

--inner
Content-Type: text/plain

text
--inner
Content-Type: text/html

<html>
--inner--
--a b
Content-Type: application/pdf
Content-Transfer-Encoding: base64

JVBERi0x
Lg==
--a b
Content-Type: text/csv; charset=utf-8
Content-Disposition: attachment; filename*0*=x; filename*1="y.csv"
Content-Transfer-Encoding: Quoted-Printable

a=3D1; =
b=C3=bc=zz  
..dot
--a b
Content-Type: image/png; name=x.png
Content-Transfer-Encoding: 8bit

one
two

--a b
Content-Type: message/rfc822
Content-Transfer-Encoding: base64

From: inner@c.example
Content-Type: application/zip

zip
--a b
Content-Type: application/x-empty

--a b
Content-Type: application/x-uu
Content-Transfer-Encoding: x-uuencode

begin
--a b--
epilogue
--a b
.
`

var digests = []string{sum("%PDF-1."), sum("a=1; b\xc3\xbc=zz\r\n.dot"), sum("one\r\ntwo\r\n"), sum("zip")}

func TestAttachments(t *testing.T) {
	s := whole("DATA\n" + parts)
	equal(t, s, append(digests, "mail.from inner@c.example 1")...)
	if len(s.List()) != 3*len(digests)+1 {
		t.Errorf("%d indicators", len(s.List()))
	}
}

func TestAMessageWithoutPartsMayBeAFile(t *testing.T) {
	equal(t, whole("DATA\nContent-Type: application/zip\n\nzip\n.\n"), sum("zip\r\n"))
	equal(t, whole("DATA\nSubject: x\n\nzip\n.\n"))
	equal(t, whole("DATA\nContent-Type: application/zip\n\nzip\n"))
}

func TestPiecesMakeNoDifference(t *testing.T) {
	long := "Content-Type: application/x\nContent-Transfer-Encoding: base64\n\n" + base64.StdEncoding.EncodeToString(make([]byte, 10000)) + "\n.\n"
	client := crlf(envelope + "From: joe@a.example\nTo: " + strings.Repeat("x", 3000) + " <y@z.example>\n" + parts + "DATA\n" + long + "QUIT\n")
	want := indicator.New()
	send(want, len(client), client)
	if len(found(want)) != len(digests)+6 {
		t.Fatal(found(want))
	}
	for _, n := range []int{1, 2, 3, 7, 100, 2047, 2048, 2049} {
		s := indicator.New()
		send(s, n, client)
		if diff := cmp.Diff(found(want), found(s)); diff != "" || s.Used() != 0 {
			t.Errorf("pieces of %d: %s, %d bytes in use", n, diff, s.Used())
		}
	}
}

func TestChunks(t *testing.T) {
	message := crlf("From: joe@a.example\nContent-Type: application/zip\n\n.\n.zip")
	client := fmt.Sprintf("BDAT 7\r\n%sBDAT %d\r\n%sBDAT 0 LAST\r\nRCPT TO:<ann@b.example>\r\n", message[:7], len(message)-7, message[7:])
	for _, n := range []int{1, 5, 1000} {
		s := indicator.New()
		send(s, n, client)
		equal(t, s, sum(".\r\n.zip"), "mail.from joe@a.example 1", "mail.to ann@b.example 1")
	}
	s := whole("BDAT 31\nFrom: joe@a.example\n\n12345BDAT x\nBDAT -1\nRSET\nRCPT TO:<ann@b.example>\n")
	equal(t, s, "mail.from joe@a.example 1", "mail.to ann@b.example 1")
}

func TestAfterSTARTTLSComesAnotherProtocol(t *testing.T) {
	for reply, want := range map[string]stream.Verdict{
		"220 go\r\n": stream.Again, "220-x\r\n220 go\r\n": stream.Again, "454 no\r\n": stream.More, "220": stream.More,
	} {
		p := mail.New(indicator.New(), stream.Conn{})
		at := indicator.At{}
		p.Data(stream.Server, []byte("220 mx.example ESMTP\r\n"), at)
		p.Data(stream.Client, []byte("EHLO x.example\r\n"), at)
		p.Data(stream.Server, []byte("250-mx\r\n250 STARTTLS\r\n"), at)
		p.Data(stream.Client, []byte("STARTTLS\r\n"), at)
		if got := p.Data(stream.Server, []byte(reply), at); got != want {
			t.Errorf("%q: %v", reply, got)
		}
	}
}

func TestARefusedMessageIsNone(t *testing.T) {
	equal(t, whole("DATA\nRSET\nMAIL FROM:<joe@a.example>\n"), "mail.from joe@a.example 1")
	equal(t, whole("DATA\nMAIL FROM:<joe@a.example>\nDATA\nQUIT\n"), "mail.from joe@a.example 1")
}

func TestGaps(t *testing.T) {
	at := indicator.At{Frame: 1}
	type event any
	for name, c := range map[string]struct {
		events []event // text of the client, bytes of the server, lengths of gaps
		want   []string
	}{
		"start in a line":   {[]event{0, "ple>\nRCPT TO:<ann@b.example>\n"}, []string{"mail.to ann@b.example 1"}},
		"start at a line":   {[]event{0, "RCPT TO:<ann@b.example>\n"}, []string{"mail.to ann@b.example 1"}},
		"in an attachment":  {[]event{"DATA\nFrom: joe@a.example\nContent-Type: a/b\n\nx\n", 5, "y\n.\n"}, []string{"mail.from joe@a.example 1"}},
		"in a header":       {[]event{"DATA\nFrom: joe@a.example, ann@b.exa", 5, "e\nTo: bob@b.example\nContent-Type: a/b\n\nx\n.\n"}, []string{"mail.from joe@a.example 1", "mail.to bob@b.example 1"}},
		"a part later":      {[]event{"DATA\nContent-Type: multipart/x; boundary=b\n\n--b\nContent-Type: a/b\n\nx", 5, "\n--b\nContent-Type: a/b\n\nzip\n--b--\n.\n"}, []string{sum("zip")}},
		"over the end":      {[]event{"DATA\nFrom: joe@a.example\n\nx\n", 50, "x\n", []byte("250 ok\r\n"), "RCPT TO:<ann@b.example>\n"}, []string{"mail.from joe@a.example 1", "mail.to ann@b.example 1"}},
		"no end after a .":  {[]event{"DATA\n\nx", 5, ".\nRCPT TO:<ann@b.example>\n.\n"}, nil},
		"in a chunk":        {[]event{"BDAT 20 LAST\n1234567890", 6, "7\n9RCPT TO:<ann@b.example>\n"}, []string{"mail.to ann@b.example 1"}},
		"over a chunk":      {[]event{"BDAT 20 LAST\n1234567890", 60, "RCPT TO:<ann@b.example>\n"}, []string{"mail.to ann@b.example 1"}},
		"of unknown length": {[]event{"BDAT 20 LAST\n1234567890", 0, "RCPT TO:<ann@b.example>\n"}, []string{"mail.to ann@b.example 1"}},
	} {
		s := indicator.New()
		p := mail.New(s, stream.Conn{})
		for _, e := range c.events {
			switch e := e.(type) {
			case string:
				p.Data(stream.Client, []byte(crlf(e)), at)
			case []byte:
				p.Data(stream.Server, e, at)
			case int:
				p.Gap(stream.Client, int64(e), at)
				p.Gap(stream.Server, int64(e), at)
			}
		}
		p.Close(at)
		if diff := cmp.Diff(append([]string{}, c.want...), found(s)); diff != "" || s.Used() != 0 {
			t.Errorf("%s: %s, %d bytes in use", name, diff, s.Used())
		}
	}
}

func TestRepliesToWhatWasPipelinedEndNoMessage(t *testing.T) {
	s := indicator.New()
	p := mail.New(s, stream.Conn{})
	at := indicator.At{}
	p.Data(stream.Client, []byte(crlf(envelope)), at)
	p.Data(stream.Server, []byte(crlf("250 mx\n250 ok\n250 ok\n354 go\n")), at)
	p.Data(stream.Client, []byte(crlf("Content-Type: a/b\n\nzi")), at)
	p.Data(stream.Server, []byte(crlf("421 hurry\n")), at)
	p.Data(stream.Client, []byte(crlf("p\n.\n")), at)
	if got := found(s); !slices.Contains(got, sum("zip\r\n")) {
		t.Error(got)
	}
}

func TestAPartEndsWithWhatIsAround(t *testing.T) {
	equal(
		t, whole("DATA\nContent-Type: multipart/x; boundary=o\n\n--o\nContent-Type: multipart/x; boundary=i\n\n"+
			"--i\nContent-Type: a/b\n\nzip\n--o\nContent-Type: a/b\n\nzap\n--i\n--o--\n.\n"),
		sum("zip"), sum("zap\r\n--i"),
	)
}

func TestBoundsAreCounted(t *testing.T) {
	nested := ""
	for i := range 12 {
		nested += fmt.Sprintf("Content-Type: multipart/x; boundary=b%d\n\n--b%d\n", i, i)
	}
	for name, c := range map[string]struct {
		client string
		limit  indicator.Limit
	}{
		"command":   {strings.Repeat("x", 5000) + "\n", mail.LimitLine},
		"addresses": {"DATA\nTo: " + strings.Repeat("x@y.example,\n ", 4000) + "\n\n.\n", mail.LimitHeader},
		"depth":     {"DATA\n" + nested + ".\n", mail.LimitMIME},
		"field":     {"DATA\nContent-Type: a/b; x=" + strings.Repeat("x", 2000) + "\n\n.\n", mail.LimitMIME},
		"boundary":  {"DATA\nContent-Type: multipart/b; boundary=" + strings.Repeat("x", 200) + "\n\n.\n", mail.LimitMIME},
	} {
		if s := whole(c.client); s.Limits()[c.limit] != 1 {
			t.Errorf("%s: %v", name, s.Limits())
		}
	}
}

func TestRecognise(t *testing.T) {
	for text, want := range map[string]bool{
		"220 mx.example ESMTP Postfix\r\n": true, "220-mx smtp": true, "220 ftp.example FTP\r\nSMTP": false, "220": false, "250 SMTP": false,
	} {
		if mail.Recognise(stream.Server, []byte(text)) != want {
			t.Error(text)
		}
	}
	for text, want := range map[string]bool{"EHLO x": true, "helo x": true, "EHLO": false, "HELP x": false} {
		if mail.Recognise(stream.Client, []byte(text)) != want {
			t.Error(text)
		}
	}
}

func TestKnownMailCostsNoMemory(t *testing.T) {
	s := indicator.New()
	p := mail.New(s, stream.Conn{})
	client := []byte(crlf(envelope + "From: joe@a.example\nCc: ann@b.example\n" + parts))
	reply := []byte("250 ok\r\n")
	see := func() {
		p.Data(stream.Client, client[:777], indicator.At{})
		p.Data(stream.Client, client[777:], indicator.At{})
		p.Data(stream.Server, reply, indicator.At{})
	}
	see()
	if n := testing.AllocsPerRun(100, see); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkAttachment(b *testing.B) {
	line := strings.Repeat("QUJD", 19) + "\r\n"
	segment := []byte(strings.Repeat(line, 200))
	p := mail.New(indicator.New(), stream.Conn{})
	p.Data(stream.Client, []byte(crlf("DATA\nContent-Type: a/b\nContent-Transfer-Encoding: base64\n\n")), indicator.At{})
	b.ReportAllocs()
	b.SetBytes(int64(len(segment)))
	for b.Loop() {
		p.Data(stream.Client, segment, indicator.At{})
	}
}

func FuzzParser(f *testing.F) {
	f.Add(uint16(3), []byte(crlf(envelope+"From: joe@a.example\n"+parts)))
	f.Add(uint16(9), []byte("BDAT 7\r\nFrom: aBDAT 9 LAST\r\n@b.c\r\n\r\nxRSET\r\n"))
	f.Fuzz(func(t *testing.T, n uint16, client []byte) {
		one, pieces := indicator.New(), indicator.New()
		send(one, len(client)+1, string(client))
		send(pieces, int(n)+1, string(client))
		if diff := cmp.Diff(found(one), found(pieces)); diff != "" || pieces.Used() != 0 {
			t.Error(diff, pieces.Used())
		}
	})
}

func FuzzBothSides(f *testing.F) {
	f.Add([]byte("\x00\x08EHLO x\r\n\x01\x04220 \x02\x05STARTTLS"))
	f.Fuzz(func(t *testing.T, script []byte) {
		s := indicator.New()
		p := mail.New(s, stream.Conn{})
		for len(script) >= 2 {
			what, n := script[0], min(int(script[1]), len(script)-2)
			side := stream.Side(what & 1)
			if what&2 == 0 {
				p.Data(side, script[2:2+n], indicator.At{})
			} else {
				p.Gap(side, int64(n), indicator.At{})
			}
			script = script[2+n:]
		}
		p.Close(indicator.At{})
		if s.Used() != 0 {
			t.Error(s.Used())
		}
	})
}
