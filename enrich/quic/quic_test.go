package quic_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"capagent/enrich/indicator"
	"capagent/enrich/quic"
)

var (
	client = netip.MustParseAddrPort("192.0.2.1:50000")
	server = netip.MustParseAddrPort("192.0.2.2:443")
)

func seen(set *indicator.Set) []string {
	list := []string{}
	for _, i := range set.List() {
		list = append(list, fmt.Sprintf("%d %s %s %s x%d", i.First.Frame, i.Type, i.Value, strings.Join(i.Role.Names(), ","), i.Count))
	}
	return list
}

// feed gives datagrams of the client to a tracker, each as a frame.
func feed(t *testing.T, datagrams ...[]byte) *indicator.Set {
	t.Helper()
	set := indicator.New()
	var tracker quic.Tracker
	for i, b := range datagrams {
		if !tracker.Datagram(set, client, server, b, indicator.At{Frame: int64(i + 1)}) {
			t.Errorf("datagram %d is not taken for QUIC", i+1)
		}
	}
	tracker.Close(set)
	if set.Used() != 0 {
		t.Errorf("%d bytes were not given back", set.Used())
	}
	return set
}

func found(frame, count int) []string {
	return []string{
		fmt.Sprintf("%d host example.com quic.client x%d", frame, count),
		fmt.Sprintf("%d ja3 41bc9ae914d6cb3bd0bd0a5453ab7d7f quic.client x%d", frame, count),
		fmt.Sprintf("%d ja4 q13d0211an_62ed6f6ca7ad_4d634acda6c0 quic.client x%d", frame, count),
	}
}

func initial(frames []byte) []byte {
	return version1(rfcID).packet(rfcID, nil, nil, 2, 4, pad(frames, 1162))
}

func join(parts ...[]byte) []byte {
	var b []byte
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

func TestInitial(t *testing.T) {
	other := []byte("another id")
	hello, n := rfcHello, len(rfcHello)
	ack := []byte{2, 5, 0, 1, 0, 0, 0}
	for name, tc := range map[string]struct {
		datagrams [][]byte
		want      []string
	}{
		"RFC 9001":    {[][]byte{version1(rfcID).packet(rfcID, nil, nil, 2, 4, rfcFrames())}, found(1, 1)},
		"RFC 9369":    {[][]byte{version2(rfcID).packet(rfcID, nil, nil, 2, 4, rfcFrames())}, found(1, 1)},
		"draft":       {[][]byte{draft29(rfcID).packet(rfcID, []byte("src"), []byte("token"), 0, 1, rfcFrames())}, found(1, 1)},
		"two packets": {[][]byte{initial(crypto(0, hello[:100])), initial(crypto(100, hello[100:]))}, found(2, 1)},
		"the other way, the id of the server, another number": {[][]byte{
			initial(crypto(100, hello[100:])), version1(rfcID).packet(other, nil, nil, 3, 1, pad(crypto(0, hello[:100]), 1162)),
		}, found(2, 1)},
		"short packet numbers": {[][]byte{
			version1(rfcID).packet(rfcID, nil, nil, 250, 2, pad(crypto(0, hello[:50]), 1162)),
			version1(rfcID).packet(rfcID, nil, nil, 260, 1, pad(crypto(50, hello[50:99]), 1162)),
			version1(rfcID).packet(rfcID, nil, nil, 255, 1, pad(crypto(99, hello[99:]), 1162)),
		}, found(3, 1)},
		"overlapping, permuted": {[][]byte{initial(join(
			crypto(200, hello[200:]), []byte{1, 0, 0}, crypto(0, hello[:90]), ack, crypto(50, hello[50:210]), crypto(60, hello[60:70]),
		))}, found(1, 1)},
		"ACK with ECN in front": {[][]byte{initial(join([]byte{3, 5, 0, 1, 0, 0, 0, 1, 1, 0x1c}, crypto(0, hello)))}, found(1, 1)},
		"sent again":            {[][]byte{initial(crypto(0, hello)), initial(crypto(0, hello))}, found(1, 1)},
		"after a Retry": {[][]byte{
			initial(crypto(0, hello)), version1(other).packet(other, nil, []byte("token"), 0, 1, pad(crypto(0, hello), 1162)),
		}, found(1, 2)},
		"a part before a Retry": {[][]byte{
			initial(crypto(0, hello[:50])), version1(other).packet(other, nil, []byte("token"), 1, 1, pad(crypto(0, hello), 1162)),
		}, found(2, 1)},
		"two hellos": {[][]byte{initial(crypto(0, join(hello, hello)))}, found(1, 2)},
		"coalesced": {[][]byte{join(
			version1(rfcID).packet(rfcID, nil, nil, 0, 1, crypto(0, hello[:100])),
			[]byte{0xd0, 0, 0, 0, 1, 2, 1, 2, 0, 3, 1, 2, 3}, // 0-RTT
			version1(rfcID).packet(rfcID, nil, nil, 1, 1, crypto(100, hello[100:])),
		)}, found(1, 1)},
		"a hole":          {[][]byte{initial(join(crypto(0, hello[:50]), crypto(51, hello[51:])))}, []string{}},
		"behind CLOSE":    {[][]byte{initial(join([]byte{0x1c, 0, 0, 0}, crypto(0, hello)))}, []string{}},
		"a damaged ACK":   {[][]byte{initial(join([]byte{2, 0, 0, 0xbf, 0xff, 0xff, 0xff}, crypto(0, hello)))}, []string{}},
		"a short id":      {[][]byte{version1(rfcID[:7]).packet(rfcID[:7], nil, nil, 2, 4, rfcFrames())}, []string{}},
		"damaged":         {[][]byte{flip(initial(crypto(0, hello)), 500)}, []string{}},
		"other keys":      {[][]byte{version1(other).packet(rfcID, nil, nil, 2, 4, rfcFrames())}, []string{}},
		"too far":         {[][]byte{initial(join([]byte{6, 0xbf, 0xff, 0xff, 0xff, 1, 1}, crypto(0, hello[:n-1])))}, []string{}},
		"a forced choice": {[][]byte{seal{0x1a2a3a4a, draft29(nil).salt, "quic", 0, rfcID}.packet(rfcID, nil, nil, 0, 1, rfcFrames())}, found(1, 1)},
	} {
		if diff := cmp.Diff(tc.want, seen(feed(t, tc.datagrams...))); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func flip(b []byte, i int) []byte {
	b[i] ^= 1
	return b
}

func TestServersInitialIsNotOpened(t *testing.T) {
	set := indicator.New()
	var tracker quic.Tracker
	tracker.Datagram(set, client, server, initial(crypto(0, rfcHello[:50])), indicator.At{Frame: 1})
	tracker.Datagram(set, server, client, initial(crypto(0, rfcHello)), indicator.At{Frame: 2})
	if got := seen(set); len(got) != 0 {
		t.Errorf("%q", got)
	}
}

func TestOthersAreNotQUIC(t *testing.T) {
	whole := initial(crypto(0, rfcHello))
	unknown := join(whole[:1], []byte{0, 0, 0, 2}, whole[5:])
	for name, b := range map[string][]byte{
		"nothing": nil, "short header": join([]byte{0x40}, whole[1:]), "no fixed bit": join([]byte{0x80}, whole[1:]),
		"another version": unknown, "version negotiation": join(whole[:1], make([]byte, 4), whole[5:]), "cut": whole[:len(whole)-1],
		"a long id": join(whole[:5], []byte{21}, make([]byte, 100)),
	} {
		var tracker quic.Tracker
		if tracker.Datagram(indicator.New(), client, server, b, indicator.At{}) {
			t.Errorf("%s: taken for QUIC", name)
		}
	}
}

// forged is an Initial packet that no key opens, of a connection of its own.
func forged(b []byte, i int) []byte {
	b[6], b[7], b[8] = byte(i>>16), byte(i>>8), byte(i)
	return b
}

func TestForgedPacketsCostLittleAndAreCounted(t *testing.T) {
	set := indicator.New()
	var tracker quic.Tracker
	b := initial(crypto(0, rfcHello))
	const sent, free, rate = 10_000, 4096, 8
	for i := range sent {
		tracker.Datagram(set, client, server, forged(b, i), indicator.At{})
	}
	// Of n datagrams, free + n/rate are tried.
	got := set.Limits()[quic.LimitKeys]
	if want := int64(sent - free - sent/rate); got != want || set.Used() != 0 {
		t.Errorf("%d were passed over, want %d; %d bytes", got, want, set.Used())
	}
	for range rate { // others let it try again
		tracker.Datagram(set, client, server, nil, indicator.At{})
	}
	tracker.Datagram(set, client, server, initial(crypto(0, rfcHello)), indicator.At{Frame: 1})
	if len(seen(set)) != 3 {
		t.Errorf("%q, %v", seen(set), set.Limits())
	}
}

func TestDamagedPacketsOfAConnectionCostNoKeys(t *testing.T) {
	set := indicator.New()
	var tracker quic.Tracker
	tracker.Datagram(set, client, server, initial(crypto(0, rfcHello[:50])), indicator.At{Frame: 1})
	damaged := flip(initial(crypto(50, rfcHello[50:])), 500)
	for range 10_000 {
		tracker.Datagram(set, client, server, damaged, indicator.At{Frame: 2})
	}
	tracker.Datagram(set, client, server, initial(crypto(50, rfcHello[50:])), indicator.At{Frame: 3})
	if diff := cmp.Diff(found(3, 1), seen(set)); diff != "" || len(set.Limits()) != 0 {
		t.Errorf("%v%s", set.Limits(), diff)
	}
}

func TestHolesAreBounded(t *testing.T) {
	var frames []byte
	for i := range 100 {
		frames = append(frames, crypto(2*i+1, []byte{1})...)
	}
	set := feed(t, initial(frames))
	if diff := cmp.Diff(map[indicator.Limit]int64{quic.LimitHello: 100 - 64}, set.Limits()); diff != "" {
		t.Error(diff)
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	set := indicator.New()
	var tracker quic.Tracker
	half := initial(crypto(0, rfcHello[:50]))
	const all, kept = 1500, 1024
	at := func(i int) netip.AddrPort { return netip.AddrPortFrom(client.Addr(), uint16(i)) }
	for i := range all {
		tracker.Datagram(set, at(i), server, half, indicator.At{})
	}
	if diff := cmp.Diff(map[indicator.Limit]int64{quic.LimitConnections: all - kept}, set.Limits()); diff != "" {
		t.Error(diff)
	}
	rest := initial(crypto(50, rfcHello[50:]))
	tracker.Datagram(set, at(all-kept), server, rest, indicator.At{Frame: 7})
	if diff := cmp.Diff(found(7, 1), seen(set)); diff != "" {
		t.Error(diff)
	}
	tracker.Close(set)
	if set.Used() != 0 {
		t.Errorf("%d bytes were not given back", set.Used())
	}
}

func TestWithoutMemoryItIsCounted(t *testing.T) {
	for left, limit := range map[int]indicator.Limit{0: quic.LimitConnections, 4 << 10: quic.LimitHello} {
		set := indicator.New()
		set.Take(indicator.MaxMemory-left, "")
		var tracker quic.Tracker
		tracker.Datagram(set, client, server, initial(crypto(0, rfcHello)), indicator.At{})
		tracker.Close(set)
		if got := set.Limits()[limit]; got != 1 || set.Used() != int64(indicator.MaxMemory-left) {
			t.Errorf("%v, %d bytes", set.Limits(), set.Used())
		}
	}
}

func TestPacketsAfterTheFirstCostNoMemory(t *testing.T) {
	set := indicator.New()
	var tracker quic.Tracker
	b := initial(crypto(0, rfcHello))
	tracker.Datagram(set, client, server, b, indicator.At{Frame: 1})
	short := make([]byte, 1200)
	short[0] = 0x41
	handshake := append([]byte{0xe0, 0, 0, 0, 1, 2, 1, 2, 0, 0x41, 0}, make([]byte, 256)...)
	if n := testing.AllocsPerRun(100, func() {
		tracker.Datagram(set, client, server, b, indicator.At{Frame: 2})
		tracker.Datagram(set, server, client, b, indicator.At{Frame: 2})
		tracker.Datagram(set, client, server, short, indicator.At{Frame: 3})
		tracker.Datagram(set, client, server, handshake, indicator.At{Frame: 4})
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkFirstInitial(b *testing.B) {
	set := indicator.New()
	var tracker quic.Tracker
	packet := initial(crypto(0, rfcHello))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 1)
		tracker.Datagram(set, from, server, packet, indicator.At{Frame: 1})
	}
}

func BenchmarkForgedInitial(b *testing.B) {
	set := indicator.New()
	var tracker quic.Tracker
	packet := initial(crypto(0, rfcHello))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		tracker.Datagram(set, client, server, forged(packet, i), indicator.At{Frame: 1})
	}
}

func BenchmarkShortHeader(b *testing.B) {
	set := indicator.New()
	var tracker quic.Tracker
	packet := make([]byte, 1200)
	packet[0] = 0x41
	b.ReportAllocs()
	for b.Loop() {
		tracker.Datagram(set, client, server, packet, indicator.At{Frame: 1})
	}
}

// FuzzQUIC gives a datagram as it is, and frames in a packet that can be opened,
// at once and cut in two.
func FuzzQUIC(f *testing.F) {
	f.Add(initial(crypto(0, rfcHello)), crypto(0, rfcHello), uint16(100))
	f.Add([]byte{0xe0, 0, 0, 0, 1, 2, 1, 2, 0, 1, 0}, join([]byte{2, 5, 0, 1, 0, 0, 0, 0x1c}, crypto(0, rfcHello)), uint16(0))
	f.Add(version2(rfcID).packet(rfcID, nil, []byte("token"), 2, 2, rfcFrames()), join(crypto(70, rfcHello[70:]), crypto(0, rfcHello[:80])), uint16(1))
	f.Fuzz(func(t *testing.T, datagram, frames []byte, at uint16) {
		if len(frames) < 4 || len(frames) > 2000 {
			return
		}
		set := indicator.New()
		var tracker quic.Tracker
		tracker.Datagram(set, client, server, datagram, indicator.At{Frame: 1})
		packet := version1(rfcID).packet(rfcID, nil, nil, 2, 4, frames)
		for i := range 3 {
			tracker.Datagram(set, client, server, packet, indicator.At{Frame: int64(i + 2)})
		}
		tracker.Close(set)

		// A message in one CRYPTO frame or in two gives the same.
		k := min(int(at), len(frames))
		whole := feed(t, initial(crypto(0, frames[:min(len(frames), 1000)])))
		k = min(k, 1000)
		parts := feed(t, initial(crypto(k, frames[k:min(len(frames), 1000)])), initial(crypto(0, frames[:k])))
		strip := func(list []string) []string {
			for i := range list {
				_, list[i], _ = strings.Cut(list[i], " ")
			}
			return list
		}
		if diff := cmp.Diff(strip(seen(whole)), strip(seen(parts))); diff != "" || set.Used() != 0 {
			t.Errorf("%d bytes left; %s", set.Used(), diff)
		}
	})
}
