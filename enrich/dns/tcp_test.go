package dns_test

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"capagent/enrich/dns"
	"capagent/enrich/indicator"
	"capagent/enrich/stream"
)

func framed(messages ...[]byte) []byte {
	var b []byte
	for _, m := range messages {
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(m))), m...)
	}
	return b
}

// follow feeds both sides in pieces of n bytes; the frames are counted from 1.
func follow(s *indicator.Set, n int, client, server []byte) {
	p := dns.NewTCP(s)
	frame := int64(0)
	for len(client)+len(server) > 0 {
		for side, b := range []*[]byte{&client, &server} {
			frame++
			piece := (*b)[:min(n, len(*b))]
			*b = (*b)[len(piece):]
			if p.Data(stream.Side(side), piece, indicator.At{Frame: frame}) == stream.Done {
				client, server = nil, nil
			}
		}
	}
	p.End(stream.Client, indicator.At{Frame: frame})
	p.End(stream.Server, indicator.At{Frame: frame})
	p.Close(indicator.At{Frame: frame})
}

func TestMessagesOverTCP(t *testing.T) {
	client := framed(message([]string{"a.example"}), message([]string{"b.example"}), nil)
	server := framed(message([]string{"a.example"}, record("*12", 1, 192, 0, 2, 1), record("c.example", 16, make([]byte, 3000)...)))
	whole := indicator.New()
	follow(whole, len(server), client, server)
	equal(
		t, listed(whole), "dns.answer address 192.0.2.1 1",
		"dns.question,dns.answer host a.example 3", "dns.question host b.example 1", "dns.answer host c.example 1",
	)
	for _, n := range []int{1, 2, 3, 13, 1000} {
		s := indicator.New()
		follow(s, n, client, server)
		if diff := cmp.Diff(listed(whole), listed(s)); diff != "" {
			t.Errorf("pieces of %d: %s", n, diff)
		}
		if s.Used() != 0 {
			t.Errorf("%d bytes were not given back", s.Used())
		}
	}
}

func TestAMessageBelongsToTheFrameThatEndsIt(t *testing.T) {
	s := indicator.New()
	p := dns.NewTCP(s)
	b := framed(message([]string{"a.example"}))
	p.Data(stream.Client, b[:5], indicator.At{Frame: 1})
	p.Data(stream.Client, b[5:], indicator.At{Frame: 2})
	if got := s.List()[0].First.Frame; got != 2 {
		t.Errorf("frame %d", got)
	}
}

func TestBehindAGapOnlyAMessageCounts(t *testing.T) {
	b := framed(message([]string{"a.example"}))
	for name, c := range map[string]struct {
		next []byte
		want int
		v    stream.Verdict
	}{
		"message": {b, 1, stream.More},
		"middle":  {b[4:], 0, stream.More},
		"junk":    {[]byte(strings.Repeat("GET / HTTP/1.1\r\n", 2000)), 0, stream.More},
	} {
		s := indicator.New()
		p := dns.NewTCP(s)
		p.Data(stream.Client, b[:9], at)
		p.Gap(stream.Client, 100, at)
		p.Data(stream.Client, c.next, at)
		if v := p.Data(stream.Client, b, at); v != c.v || len(s.List()) != c.want {
			t.Errorf("%s: %v %v", name, v, listed(s))
		}
		p.Gap(stream.Server, 0, at)
		p.Data(stream.Server, c.next, at)
		if v := p.Data(stream.Server, b, at); name == "middle" && v != stream.Done {
			t.Errorf("%s: %v", name, v)
		}
		p.Close(at)
		if s.Used() != 0 {
			t.Errorf("%s: %d bytes were not given back", name, s.Used())
		}
	}
}

func FuzzTCP(f *testing.F) {
	f.Add(uint16(3), framed(message([]string{"a.example"}), message([]string{"b.example"})))
	f.Fuzz(func(t *testing.T, n uint16, b []byte) {
		whole, pieces := indicator.New(), indicator.New()
		follow(whole, len(b)+1, b, b)
		follow(pieces, int(n)+1, b, b)
		if diff := cmp.Diff(listed(whole), listed(pieces)); diff != "" || pieces.Used() != 0 {
			t.Error(diff, pieces.Used())
		}
	})
}
