package http_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"capagent/enrich/stream"
)

const magic = http2.ClientPreface

// frames writes one side of an HTTP/2 connection.
type frames struct {
	bytes.Buffer
	*http2.Framer
	block bytes.Buffer
	enc   *hpack.Encoder
}

func newFrames() *frames {
	f := &frames{}
	f.Framer = http2.NewFramer(&f.Buffer, nil)
	f.enc = hpack.NewEncoder(&f.block)
	return f
}

// header encodes "name: value" lines.
func (f *frames) header(fields ...string) []byte {
	f.block.Reset()
	for _, field := range fields {
		name, value, _ := strings.Cut(field, "=")
		_ = f.enc.WriteField(hpack.HeaderField{Name: name, Value: value})
	}
	return bytes.Clone(f.block.Bytes())
}

func (f *frames) headers(id uint32, end bool, fields ...string) *frames {
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: f.header(fields...), EndStream: end, EndHeaders: true})
	return f
}

func (f *frames) data(id uint32, end bool, data string) *frames {
	_ = f.WriteData(id, end, []byte(data))
	return f
}

// take returns what was written since the last call.
func (f *frames) take() string {
	defer f.Reset()
	return f.String()
}

// conversation is one of everything.
func conversation(t testing.TB) []event {
	c, s := newFrames(), newFrames()
	_ = c.WriteSettings()
	c.headers(1, true, ":method=GET", ":scheme=http", ":authority=a.example:8080", ":path=/x?y", "user-agent=ua/1")
	first := magic + c.take()
	c.headers(3, false, ":method=POST", ":scheme=http", ":authority=a.example:8080", ":path=/up", "user-agent=ua/1")
	c.data(3, false, "abc")
	_ = c.WriteDataPadded(3, true, []byte("def"), []byte("\x00\x00\x00"))
	second := c.take()

	_ = s.WriteSettings()
	block := s.header(":method=GET", ":scheme=http", ":authority=b.example", ":path=/pushed")
	_ = s.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 2, BlockFragment: block, EndHeaders: true, PadLength: 3})
	block = s.header(":status=200", "content-encoding=gzip", "x="+strings.Repeat("x", 99))
	_ = s.WriteHeaders(http2.HeadersFrameParam{
		StreamID: 1, BlockFragment: block[:5], PadLength: 9, Priority: http2.PriorityParam{StreamDep: 7, Weight: 1},
	})
	_ = s.WriteContinuation(1, false, block[5:20])
	_ = s.WriteContinuation(1, true, block[20:])
	_ = s.WritePing(false, [8]byte{})
	third := s.take()
	body := coded(t, "gzip", "what came")
	s.headers(3, false, ":status=103", "link=x").headers(3, false, ":status=200")
	s.data(1, false, body[:9]).data(3, false, "other").data(1, true, body[9:])
	s.headers(3, true, "trailer=x")
	s.headers(2, false, ":status=200", "content-encoding=gzip").data(2, false, body[:9])
	_ = s.WriteRSTStream(2, 1)
	s.headers(4, false, ":status=200", "content-encoding=gzip").data(4, false, body[:9])
	return []event{client(first), server(third), client(second), server(s.take())}
}

func TestHTTP2(t *testing.T) {
	set, verdict := play(t, conversation(t)...)
	check(
		t, set, "host a.example @1 x2", "host b.example @2 x1",
		"url http://a.example:8080/x?y @1 x1", "url http://b.example/pushed @2 x1", "url http://a.example:8080/up @3 x1",
		file("abcdef", 3), file("what came", 4), file("other", 4), "user_agent ua/1 @1 x2",
	)
	if verdict != stream.More {
		t.Error(verdict)
	}
}

func TestHTTP2AfterAnUpgrade(t *testing.T) {
	c, s := newFrames(), newFrames()
	_ = s.WriteSettings()
	s.headers(1, false, ":status=200").data(1, true, "answer")
	_ = c.WriteSettings()
	c.headers(3, true, ":method=GET", ":scheme=http", ":authority=b", ":path=/")
	set, _ := play(
		t, client("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: \r\n\r\n"),
		server("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"+s.take()), client(magic+c.take()),
	)
	check(t, set, "host a @1 x1", "host b @3 x1", "url http://a/ @1 x1", "url http://b/ @3 x1", file("answer", 2))
}

func TestWhatEndsASideOfHTTP2(t *testing.T) {
	get := func(f *frames, id uint32, host string) string {
		return f.headers(id, true, ":method=GET", ":scheme=http", ":authority="+host, ":path=/").take()
	}
	for _, c := range []struct {
		name string
		do   func(c, s *frames) []event
		want []string
	}{
		{"gap", func(c, s *frames) []event {
			return []event{client(magic + get(c, 1, "a")), gap(stream.Client, 9), client(get(c, 3, "b")), server(s.headers(1, false, ":status=200").data(1, true, "x").take())}
		}, []string{"host a @1 x1", "url http://a/ @1 x1", file("x", 4), "limit http2_gap 1"}},
		{"header block of another stream within one", func(c, s *frames) []event {
			_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x82}})
			return []event{client(magic + get(c, 3, "a"))}
		}, []string{"limit http2_broken 1"}},
		{"header block that can't be decoded", func(c, s *frames) []event {
			_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0xff, 0xff}, EndHeaders: true})
			return []event{client(magic + get(c, 3, "a"))}
		}, []string{"limit http2_broken 1"}},
		{"endless header block", func(c, s *frames) []event {
			_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x82}})
			for range 9 {
				_ = c.WriteContinuation(1, false, make([]byte, 16<<10))
			}
			return []event{client(magic + c.take())}
		}, []string{"limit http2_headers 1"}},
		{"no preface after all", func(c, s *frames) []event {
			return []event{client("PRI * HTTP/2.0\r\n\r\n"), client("SX\r\n\r\n")}
		}, []string{"limit http2_broken 1"}},
		{"padding without end", func(c, s *frames) []event {
			return []event{client(magic + "\x00\x00\x02\x00\x08\x00\x00\x00\x01\x09x")}
		}, []string{"limit http2_broken 1"}},
		{"very many streams", func(c, s *frames) []event {
			for id := range uint32(130) {
				s.headers(2*id+1, false, ":status=200").data(2*id+1, false, "x")
			}
			return []event{client(magic), server(s.take() + s.data(1, true, "y").take())}
		}, []string{file("xy", 2), "limit http2_streams 2"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			set, _ := play(t, c.do(newFrames(), newFrames())...)
			check(t, set, c.want...)
		})
	}
}

func TestAServersSettingsMayComeFirst(t *testing.T) {
	s, c := newFrames(), newFrames()
	_ = s.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 100})
	hello := s.take()
	c.headers(1, true, ":method=GET", ":scheme=http", ":authority=a", ":path=/")
	set, _ := play(t, server(hello), client(magic+c.take()), server(s.headers(1, false, ":status=200").data(1, true, "x").take()))
	check(t, set, "host a @2 x1", "url http://a/ @2 x1", file("x", 3))
}

func TestHowHTTP2IsCutDoesNotMatter(t *testing.T) {
	events := conversation(t)
	whole, _ := play(t, events...)
	for n := 1; n < 40; n++ {
		var cut []event
		for _, e := range events {
			for len(e.data) > 0 {
				k := min(n, len(e.data))
				cut = append(cut, event{side: e.side, data: e.data[:k]})
				e.data = e.data[k:]
			}
		}
		got, _ := play(t, cut...)
		if diff := cmp.Diff(counts(whole), counts(got)); diff != "" {
			t.Fatal(fmt.Sprint(n), diff)
		}
	}
}
