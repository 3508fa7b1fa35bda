package ftp_test

import (
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"capagent/enrich/ftp"
	"capagent/enrich/indicator"
	"capagent/enrich/stream"
)

var (
	conn = stream.Conn{Client: netip.MustParseAddrPort("192.0.2.1:40000"), Server: netip.MustParseAddrPort("198.51.100.1:21")}
	at   = indicator.At{Frame: 7}
)

// control is a control connection and what it announced.
type control struct {
	*ftp.Parser
	set       *indicator.Set
	announced []string
	last      *ftp.Transfer
}

func newControl() *control {
	c := &control{set: indicator.New()}
	c.Parser = ftp.New(c.set, conn, func(listening netip.AddrPort, t *ftp.Transfer) {
		c.announced = append(c.announced, listening.String())
		c.last = t
	})
	return c
}

// say feeds lines, each in pieces of n bytes: those that begin with a digit are
// the server's.
func (c *control) say(n int, lines ...string) stream.Verdict {
	v := stream.More
	for _, line := range lines {
		side := stream.Client
		if line[0] >= '0' && line[0] <= '9' {
			side = stream.Server
		}
		for line += "\r\n"; len(line) > 0 && v == stream.More; {
			piece := line[:min(n, len(line))]
			line = line[len(piece):]
			v = c.Data(side, []byte(piece), at)
		}
	}
	return v
}

// file is what a transfer of body leads to.
func (c *control) file(body string) string {
	d := ftp.Data(c.set, c.last)
	for side, b := range []string{"", body} {
		d.Data(stream.Side(side), []byte(b[:len(b)/2]), at)
		d.Data(stream.Side(side), []byte(b[len(b)/2:]), at)
	}
	d.End(stream.Client, at)
	d.End(stream.Server, at)
	d.Close(at)
	for _, i := range c.set.List() {
		m := md5.Sum([]byte(body))
		if i.Value == hex.EncodeToString(m[:]) {
			return fmt.Sprint(i.Role.Names(), i.Count)
		}
	}
	return ""
}

func TestDataConnectionsAreAnnounced(t *testing.T) {
	for line, want := range map[string][]string{
		"PORT 192,0,2,1,4,5":                              {"192.0.2.1:1029"},
		"port 10,0,0,1,4,5":                               {"192.0.2.1:1029", "10.0.0.1:1029"},
		"EPRT |1|192.0.2.1|6446|":                         {"192.0.2.1:6446"},
		"EPRT |2|2001:db8::1|6446|":                       {"192.0.2.1:6446", "[2001:db8::1]:6446"},
		"227 Entering Passive Mode (198,51,100,1,200,10)": {"198.51.100.1:51210"},
		"227 Passive 1 at 198,51,100,1,200,10.":           {"198.51.100.1:51210"},
		"229 Entering Extended Passive Mode (|||6446|)":   {"198.51.100.1:6446"},
		"229 Entering Extended Passive Mode (!!!6446!)":   {"198.51.100.1:6446"},
		"227 (198,51,100,1,0,0)":                          nil,
		"227 (198,51,100,256,1,1)":                        nil,
		"229 (|||66446|)":                                 nil,
		"229":                                             nil,
		"229 (":                                           nil,
		"227-Entering Passive Mode (198,51,100,1,200,10)": nil,
		"EPRT":           nil,
		"PORT 1,2,3,4,5": nil,
		"227 " + strings.Repeat("x", 2000) + " (1,2,3,4,5,6)":     nil,
		"227 " + strings.Repeat("9", 300) + " (198,51,100,1,1,0)": {"198.51.100.1:256"},
	} {
		for _, n := range []int{1, 3, 5000} {
			c := newControl()
			c.say(n, line)
			if diff := cmp.Diff(want, c.announced); diff != "" {
				t.Errorf("%q in pieces of %d: %s", line, n, diff)
			}
			if c.Close(at); c.set.Used() != 0 {
				t.Errorf("%q: %d bytes in use", line, c.set.Used())
			}
		}
	}
}

const pasv = "227 Entering Passive Mode (198,51,100,1,200,10)"

func TestTheCommandTellsWhatATransferIs(t *testing.T) {
	for name, c := range map[string]struct {
		lines []string
		want  string
	}{
		"download":   {[]string{pasv, "RETR x"}, "[ftp.download] 1"},
		"upload":     {[]string{pasv, "stor x"}, "[ftp.upload] 1"},
		"unique":     {[]string{pasv, "STOU"}, "[ftp.upload] 1"},
		"list":       {[]string{pasv, "LIST"}, ""},
		"nothing":    {[]string{pasv}, ""},
		"part":       {[]string{pasv, "REST 100", "RETR x"}, ""},
		"no part":    {[]string{pasv, "REST 0", "RETR x"}, "[ftp.download] 1"},
		"after part": {[]string{pasv, "REST 100", "RETR x", pasv, "RETR x"}, "[ftp.download] 1"},
		"only first": {[]string{pasv, "RETR x", "LIST"}, "[ftp.download] 1"},
	} {
		k := newControl()
		k.say(100, c.lines...)
		if got := k.file("some file"); got != c.want {
			t.Errorf("%s: %s", name, got)
		}
		if k.file("") != "" {
			t.Errorf("%s: an empty file", name)
		}
		if k.Close(at); k.set.Used() != 0 {
			t.Errorf("%s: %d bytes in use", name, k.set.Used())
		}
	}
}

func TestTheCommandMayComeAfterTheConnection(t *testing.T) {
	c := newControl()
	c.say(100, "PORT 192,0,2,1,4,5")
	d := ftp.Data(c.set, c.last)
	c.say(100, "STOR x")
	d.Data(stream.Server, []byte("file"), at)
	d.End(stream.Server, indicator.At{Frame: 9})
	if l := c.set.List(); len(l) != 3 || l[0].First.Frame != 9 || l[0].Role != indicator.FTPUpload {
		t.Errorf("%+v", l)
	}
}

func TestOnlyWholeFilesCount(t *testing.T) {
	for name, feed := range map[string]func(d stream.Parser) stream.Verdict{
		"gap":        func(d stream.Parser) stream.Verdict { return d.Gap(stream.Server, 3, at) },
		"both sides": func(d stream.Parser) stream.Verdict { return d.Data(stream.Client, []byte("x"), at) },
		"no end":     func(d stream.Parser) stream.Verdict { d.Close(at); return stream.Done },
		"other end":  func(d stream.Parser) stream.Verdict { d.End(stream.Client, at); d.Close(at); return stream.Done },
	} {
		c := newControl()
		c.say(100, pasv, "RETR x")
		d := ftp.Data(c.set, c.last)
		d.Data(stream.Server, []byte("file"), at)
		if v := feed(d); v != stream.Done {
			t.Errorf("%s: %v", name, v)
		}
		d.Close(at)
		if l := c.set.List(); len(l) != 0 || c.set.Used() != 0 {
			t.Errorf("%s: %v, %d bytes in use", name, l, c.set.Used())
		}
	}
}

func TestAfterAUTHComesAnotherProtocol(t *testing.T) {
	for name, c := range map[string]struct {
		lines []string
		want  stream.Verdict
	}{
		"granted":   {[]string{"220 FTP", "AUTH TLS", "234 go"}, stream.Again},
		"refused":   {[]string{"220 FTP", "AUTH TLS", "530 no", "234 ?"}, stream.More},
		"not asked": {[]string{"234 ?"}, stream.More},
	} {
		if v := newControl().say(100, c.lines...); v != c.want {
			t.Errorf("%s: %v", name, v)
		}
	}
}

func TestAGapInTheControlConnection(t *testing.T) {
	c := newControl()
	c.Data(stream.Server, []byte("227 Entering Pass"), at)
	c.Gap(stream.Server, 0, at)
	c.say(100, pasv, "RETR x")
	if c.file("some file") != "[ftp.download] 1" {
		t.Error("not found")
	}
}

func TestRecognise(t *testing.T) {
	for text, want := range map[string]bool{"220 (vsFTPd 3)\r\n": true, "220-Pro ftp": true, "220 mx ESMTP\r\nFTP": false, "220": false, "200 FTP": false} {
		if ftp.Recognise(stream.Server, []byte(text)) != want || ftp.Recognise(stream.Client, []byte(text)) {
			t.Error(text)
		}
	}
}

func TestCommandsCostNoMemory(t *testing.T) {
	c := newControl()
	client, server := []byte("LIST\r\nNOOP\r\nCWD x\r\n"), []byte("200 ok\r\n150-x\r\n226 done\r\n")
	see := func() {
		c.Data(stream.Client, client[:3], at)
		c.Data(stream.Client, client[3:], at)
		c.Data(stream.Server, server, at)
	}
	see()
	if n := testing.AllocsPerRun(100, see); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzControl(f *testing.F) {
	f.Add(uint8(3), []byte(pasv+"\r\n229 (|||6446|)\r\n"), []byte("PORT 10,0,0,1,4,5\r\nRETR x\r\nEPRT |1|192.0.2.1|6446|\r\n"))
	f.Fuzz(func(t *testing.T, n uint8, server, client []byte) {
		var announced [2][]string
		for run, size := range []int{1 << 20, int(n) + 1} {
			c := newControl()
			for side, b := range [][]byte{client, server} {
				for v := stream.More; len(b) > 0 && v == stream.More; {
					piece := b[:min(size, len(b))]
					b = b[len(piece):]
					v = c.Data(stream.Side(side), piece, at)
				}
			}
			if c.Close(at); c.set.Used() != 0 {
				t.Error(c.set.Used())
			}
			announced[run] = c.announced
		}
		if diff := cmp.Diff(announced[0], announced[1]); diff != "" {
			t.Error(diff)
		}
	})
}
