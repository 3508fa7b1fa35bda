package tls_test

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"capagent/enrich/indicator"
	"capagent/enrich/tls"
)

var (
	here  = netip.MustParseAddrPort("192.0.2.1:4000")
	there = netip.MustParseAddrPort("192.0.2.2:4433")
)

func dtlsHello() hello {
	return hello{version: 0xfefd, ciphers: []uint16{0xc02b, 0xc02f}, cookie: []byte("cookie"), extensions: []extension{sni("www.example.com"), groups(23)}}
}

// fragment is a record with a fragment of a ClientHello.
func fragment(sequence, offset, n int, body []byte) []byte {
	b := []byte{22, 0xfe, 0xff, 0, 0, 0, 0, 0, 0, 0, byte(sequence)}
	b = binary.BigEndian.AppendUint16(b, uint16(12+n))
	b = append(b, 1, byte(len(body)>>16), byte(len(body)>>8), byte(len(body)), 0, byte(sequence))
	b = append(b, 0, byte(offset>>8), byte(offset), 0, byte(n>>8), byte(n))
	return append(b, body[offset:offset+n]...)
}

func TestDTLS(t *testing.T) {
	body := dtlsHello().body()
	whole := fragment(0, 0, len(body), body)
	n := len(body)
	for name, tc := range map[string]struct {
		datagrams [][]byte
		frame     string // "": nothing is found
	}{
		"whole":           {[][]byte{whole}, "1"},
		"in two":          {[][]byte{fragment(1, 0, 20, body), fragment(1, 20, n-20, body)}, "2"},
		"the other way":   {[][]byte{fragment(1, 20, n-20, body), fragment(1, 0, 20, body)}, "2"},
		"overlapping":     {[][]byte{fragment(1, 0, 30, body), fragment(1, 40, n-40, body), fragment(1, 20, 30, body)}, "3"},
		"in one datagram": {[][]byte{append(fragment(1, 0, 20, body), fragment(1, 20, n-20, body)...)}, "1"},
		"encrypted":       {[][]byte{append(append(bytes.Clone(whole[:4]), 1), whole[5:]...)}, ""},
		"two messages":    {[][]byte{fragment(1, 0, 20, body), fragment(2, 20, n-20, body)}, ""},
	} {
		set := indicator.New()
		var d tls.Datagrams
		for i, b := range tc.datagrams {
			if !d.Datagram(set, here, there, b, indicator.At{Frame: int64(i + 1)}) {
				t.Errorf("%s: not DTLS", name)
			}
		}
		d.Close(set)
		got := seen(set)
		if tc.frame == "" {
			if len(got) != 0 {
				t.Errorf("%s: %q", name, got)
			}
		} else if len(got) != 3 || got[0] != tc.frame+" host www.example.com dtls.client x1" {
			t.Errorf("%s: %q", name, got)
		}
		if set.Used() != 0 || len(set.Limits()) != 0 {
			t.Errorf("%s: %d bytes, %v", name, set.Used(), set.Limits())
		}
	}
}

func TestOthersAreNotDTLS(t *testing.T) {
	whole := fragment(0, 0, 20, dtlsHello().body())
	for name, b := range map[string][]byte{
		"nothing": nil, "cut": whole[:20], "DNS": []byte("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x00\x00\x01\x00\x01"),
		"another version": append([]byte{22, 3, 3}, whole[3:]...), "another type": append([]byte{64}, whole[1:]...),
	} {
		var d tls.Datagrams
		if d.Datagram(indicator.New(), here, there, b, indicator.At{}) {
			t.Errorf("%s: taken for DTLS", name)
		}
	}
}

func TestFragmentsOfDTLSAreBounded(t *testing.T) {
	set := indicator.New()
	var d tls.Datagrams
	body := dtlsHello().body()
	for i := range 200 {
		d.Datagram(set, here, there, fragment(i, 0, 20, body), indicator.At{})
	}
	if used := set.Used(); used == 0 || used > 64*32<<10 {
		t.Errorf("%d bytes", used)
	}
	if diff := cmp.Diff(map[indicator.Limit]int64{tls.LimitDTLS: 200 - 64}, set.Limits()); diff != "" {
		t.Error(diff)
	}
	d.Datagram(set, here, there, fragment(199, 20, len(body)-20, body), indicator.At{Frame: 1})
	d.Close(set)
	if got := seen(set); len(got) != 3 || set.Used() != 0 {
		t.Errorf("%q, %d bytes", got, set.Used())
	}
}

func FuzzDTLS(f *testing.F) {
	body := dtlsHello().body()
	f.Add(fragment(0, 0, len(body), body), []byte{})
	f.Add(fragment(1, 0, 20, body), fragment(1, 20, len(body)-20, body))
	f.Add(fragment(1, 30, 20, body), append(fragment(1, 10, 30, body), fragment(1, 0, 10, body)...))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		set := indicator.New()
		var d tls.Datagrams
		d.Datagram(set, here, there, first, indicator.At{Frame: 1})
		d.Datagram(set, here, there, second, indicator.At{Frame: 2})
		d.Close(set)
		if set.Used() != 0 {
			t.Errorf("%d bytes were not given back", set.Used())
		}
	})
}
