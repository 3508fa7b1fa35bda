package frame_test

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"capagent/enrich/frame"
	"capagent/enrich/indicator"
)

// collector notes what it is given.
type collector struct {
	datagrams []frame.Datagram
	arp       int
}

func (c *collector) ARP([]byte) { c.arp++ }

func (c *collector) Datagram(d *frame.Datagram) {
	copied := *d
	copied.Payload = slices.Clone(d.Payload)
	c.datagrams = append(c.datagrams, copied)
}

// text shows what was found: "outer 10.0.0.1>10.0.0.2/47 192.0.2.1>192.0.2.2/17:payload".
func (c *collector) text() string {
	var list []string
	for _, d := range c.datagrams {
		s := fmt.Sprintf("%v>%v/%d", d.Src.IP(), d.Dst.IP(), d.Proto)
		switch {
		case d.Outer:
			s = "outer " + s
		case d.Quoted:
			s = "quoted " + s
		case d.Proto == frame.UDP && len(d.Payload) >= 8:
			s += ":" + string(d.Payload[8:])
		}
		list = append(list, s)
	}
	if c.arp > 0 {
		list = append(list, fmt.Sprintf("arp*%d", c.arp))
	}
	return strings.Join(list, " ")
}

func unhex(text string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

func join(parts ...any) []byte {
	var b []byte
	for _, p := range parts {
		switch p := p.(type) {
		case string:
			b = append(b, unhex(p)...)
		case []byte:
			b = append(b, p...)
		}
	}
	return b
}

func udp(srcPort, dstPort int, payload []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(srcPort))
	b = binary.BigEndian.AppendUint16(b, uint16(dstPort))
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(payload)))
	return append(append(b, 0, 0), payload...)
}

func ip4(src, dst byte, proto int, payload []byte) []byte {
	return fragment4(src, dst, proto, payload, 7, 0, false)
}

func fragment4(src, dst byte, proto int, payload []byte, id uint16, offset int, more bool) []byte {
	b := []byte{0x45, 0}
	b = binary.BigEndian.AppendUint16(b, uint16(20+len(payload)))
	b = binary.BigEndian.AppendUint16(b, id)
	frag := uint16(offset / 8)
	if more {
		frag |= 0x2000
	}
	b = binary.BigEndian.AppendUint16(b, frag)
	b = append(b, 64, byte(proto), 0, 0, 192, 0, 2, src, 192, 0, 2, dst)
	return append(b, payload...)
}

func ip6(src, dst byte, next int, payload []byte) []byte {
	b := []byte{0x60, 0, 0, 0}
	b = binary.BigEndian.AppendUint16(b, uint16(len(payload)))
	b = append(b, byte(next), 64)
	for _, last := range []byte{src, dst} {
		b = append(b, unhex("20010db8000000000000000000 00")...)
		b = append(b, 0, last)
	}
	return append(b, payload...)
}

func ether(typ string, payload []byte) []byte {
	return join("020000000002 020000000001", typ, payload)
}

func TestHeadersAroundADatagram(t *testing.T) {
	in4 := ip4(1, 2, 17, udp(1000, 2000, []byte("hi")))
	in6 := ip6(1, 2, 17, udp(1000, 2000, []byte("hi")))
	eth4 := ether("0800", in4)
	const v4, v6 = "192.0.2.1>192.0.2.2/17:hi", "2001:db8::1>2001:db8::2/17:hi"
	outer := func(proto int, payload []byte) []byte { return ether("0800", ip4(8, 9, proto, payload)) }
	const by = "outer 192.0.2.8>192.0.2.9/"
	data80211 := "0800 0000 020000000001 020000000002 020000000003 0000"
	snap := "aaaa03000000"
	for name, tc := range map[string]struct {
		linkType int
		data     []byte
		want     string
	}{
		"ethernet":           {1, eth4, v4},
		"ethernet, padded":   {1, join(eth4, "000000000000"), v4},
		"ipv6":               {1, ether("86dd", in6), v6},
		"vlan":               {1, ether("8100 0005 0800", in4), v4},
		"qinq":               {1, ether("88a8 0005 8100 0006 86dd", in6), v6},
		"snap":               {1, ether("0040"+snap+"0800", in4), v4},
		"mpls":               {1, ether("8847 00010040 00011140", in4), v4},
		"mpls, ipv6":         {1, ether("8847 00011140", in6), v6},
		"mpls pseudowire":    {1, ether("8847 00011140 00000000", eth4), v4},
		"pppoe":              {1, ether("8864 1100 0001 0018 0021", in4), v4},
		"pppoe, ipv6":        {1, ether("8864 1100 0001 0018 0057", in6), v6},
		"cisco metadata":     {1, ether("8909 0101 0001 0000 0800", in4), v4},
		"arp":                {1, ether("0806", unhex("0001080006040001")), "arp*1"},
		"null":               {0, join("02000000", in4), v4},
		"loop, ipv6":         {108, join("0000001e", in6), v6},
		"raw":                {101, in4, v4},
		"raw, ipv6":          {12, in6, v6},
		"sll":                {113, join("0000 0001 0006 0200000000010000 0800", in4), v4},
		"sll, vlan":          {113, join("0000 0001 0006 0200000000010000 8100 0005 0800", in4), v4},
		"sll2":               {276, join("86dd 0000 00000001 0001 00 06 0200000000010000", in6), v6},
		"ppp":                {9, join("ff030021", in4), v4},
		"ppp, short":         {9, join("21", in4), v4},
		"cisco hdlc":         {104, join("0f00 0800", in4), v4},
		"802.11":             {105, join(data80211, snap, "0800", in4), v4},
		"802.11 qos":         {105, join("8800"+data80211[4:], "0000", snap, "0800", in4), v4},
		"802.11 four":        {105, join("0803"+data80211[4:], "020000000004", snap, "86dd", in6), v6},
		"802.11 protected":   {105, join("0840"+data80211[4:], snap, "0800", in4), ""},
		"802.11 beacon":      {105, join("8000"+data80211[4:], snap, "0800", in4), ""},
		"802.11 a-msdu":      {105, join("8800"+data80211[4:], "8000", "020000000002 020000000001 0026", snap, "0800", in4, "020000000002 020000000001 0026", snap, "0800", in4), v4 + " " + v4},
		"radiotap":           {127, join("0000 0900 02000000 10", data80211, snap, "0800", in4), v4},
		"radiotap, padded":   {127, join("0000 1900 03000080 00000000 00000000 0000000000000000 20", "8800"+data80211[4:], "0000 0000", snap, "0800", in4), v4},
		"ip in ip":           {1, outer(4, in4), by + "4 " + v4},
		"6in4":               {1, outer(41, in6), by + "41 " + v6},
		"gre":                {1, outer(47, join("0000 0800", in4)), by + "47 " + v4},
		"gre, key, sequence": {1, outer(47, join("3000 86dd 00000001 00000002", in6)), by + "47 " + v6},
		"gre, ethernet":      {1, outer(47, join("2000 6558 00000100", eth4)), by + "47 " + v4},
		"pptp":               {1, outer(47, join("3081 880b 0000 0001 00000002 00000003 ff030021", in4)), by + "47 " + v4},
		"erspan 1":           {1, outer(47, join("0000 88be", eth4)), by + "47 " + v4},
		"erspan 2":           {1, outer(47, join("1000 88be 00000001 1001000000000000", eth4)), by + "47 " + v4},
		"erspan 3":           {1, outer(47, join("1000 22eb 00000001 200100000000000000000000", eth4)), by + "47 " + v4},
		"erspan 3, platform": {1, outer(47, join("1000 22eb 00000001 200100000000000000000001 0000000000000000", eth4)), by + "47 " + v4},
		"vxlan":              {1, outer(17, udp(5555, 4789, join("0800000000000100", eth4))), by + "17 " + v4},
		"gre in udp":         {1, outer(17, udp(5555, 4754, join("0000 0800", in4))), by + "17 " + v4},
		"vxlan-gpe":          {1, outer(17, udp(5555, 4790, join("0c00000200000100", in6))), by + "17 " + v6},
		"nsh":                {1, ether("894f 0fc6 0101 00002dff"+"00000000000000000000000000000000", in4), v4},
		"hdlc in ppp":        {9, join("0f000800", in4), v4},
		"frame relay":        {107, join("0401 03 cc", in4), v4},
		"frame relay, snap":  {107, join("0401 03 00 80000000 0800", in4), v4},
		"nflog":              {239, join("0200 0000 0800 0100 00000000 0500 0a00 78000000 2200 0900", in4), v4},
		"geneve":             {1, outer(17, udp(5555, 6081, join("0100 6558 00000100 01020304", eth4))), by + "17 " + v4},
		"gtp-u":              {1, outer(17, udp(2152, 2152, join("30ff 0000 00000001", in4))), by + "17 " + v4},
		"teredo":             {1, outer(17, udp(5555, 3544, in6)), by + "17 " + v6},
		"ipv6 extensions":    {101, ip6(1, 2, 0, join("3c00000000000000 1100000000000000", udp(1, 2, []byte("x")))), "2001:db8::1>2001:db8::2/17:x"},
		"authentication":     {101, ip4(1, 2, 51, join("1104 0000 00000001 00000001 000000000000000000000000", udp(1, 2, []byte("x")))), "192.0.2.1>192.0.2.2/17:x"},
		"atomic fragment":    {101, ip6(1, 2, 44, join("11 00 0000 00000001", udp(1, 2, []byte("x")))), "2001:db8::1>2001:db8::2/17:x"},
		"icmp error":         {101, ip4(9, 1, 1, join("0301000000000000", in4)), "192.0.2.9>192.0.2.1/1 quoted " + v4[:len(v4)-3]},
		"icmpv6 error":       {101, ip6(9, 1, 58, join("0100000000000000", in6)), "2001:db8::9>2001:db8::1/58 quoted " + v6[:len(v6)-3]},
		"another link type":  {189, in4, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var c collector
			set := indicator.New()
			d := frame.New(&c, &set.Bounds)
			found := d.Decode(tc.linkType, tc.data, 1)
			if got := c.text(); got != tc.want || found != (tc.want != "") {
				t.Errorf("%q (%v), want %q", got, found, tc.want)
			}
			for n := range tc.data { // cut anywhere: no panic
				d.Decode(tc.linkType, tc.data[:n:n], 1)
			}
			still := quiet(set)
			if n := testing.AllocsPerRun(10, func() { still.Decode(tc.linkType, tc.data, 1) }); n != 0 {
				t.Errorf("%v allocations", n)
			}
		})
	}
}

type nothing struct{}

func (nothing) ARP([]byte)               {}
func (nothing) Datagram(*frame.Datagram) {}

func quiet(set *indicator.Set) *frame.Decoder { return frame.New(nothing{}, &set.Bounds) }

// TestFragmentsInAnyOrder: whatever the order, the repetitions and the overlaps,
// a datagram is found once it is whole, and only then.
func TestFragmentsInAnyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		payload := udp(1, 2, rapid.SliceOfN(rapid.Byte(), 1, 4000).Draw(t, "payload"))
		type cut struct{ from, to int }
		var cuts []cut
		for at := 0; at < len(payload); {
			to := min(len(payload), at+8*rapid.IntRange(1, 60).Draw(t, "length"))
			cuts = append(cuts, cut{at, to})
			at = to
		}
		for range rapid.IntRange(0, 3).Draw(t, "again") {
			cuts = append(cuts, cuts[rapid.IntRange(0, len(cuts)-1).Draw(t, "which")])
		}
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		random.Shuffle(len(cuts), func(i, j int) { cuts[i], cuts[j] = cuts[j], cuts[i] })
		v6 := rapid.Bool().Draw(t, "v6")
		var c collector
		set := indicator.New()
		d := frame.New(&c, &set.Bounds)
		var have []cut
		for n, k := range cuts {
			more := k.to < len(payload)
			if v6 {
				head := []byte{17, 0, byte(k.from >> 8), byte(k.from), 0, 0, 0, 9}
				if more {
					head[3] |= 1
				}
				d.Decode(101, ip6(1, 2, 44, append(head, payload[k.from:k.to]...)), int64(n))
			} else {
				d.Decode(101, fragment4(1, 2, 17, payload[k.from:k.to], 9, k.from, more), int64(n))
			}
			have = append(have, k)
			slices.SortFunc(have, func(a, b cut) int { return a.from - b.from })
			whole := 0
			for _, h := range have {
				if h.from <= whole {
					whole = max(whole, h.to)
				}
			}
			last := c.datagrams[len(c.datagrams)-1]
			if whole == len(payload) {
				if last.Outer || !slices.Equal(last.Payload, payload) || last.Length != len(payload) {
					t.Fatalf("after %d of %d: %d bytes, outer %v", n+1, len(cuts), len(last.Payload), last.Outer)
				}
				break
			}
			if !last.Outer {
				t.Fatalf("found after %d of %d, with %d bytes", n+1, len(cuts), whole)
			}
		}
		d.Close()
		if set.Used() != 0 {
			t.Fatalf("%d bytes are not given back", set.Used())
		}
	})
}

func TestFragmentsAreBounded(t *testing.T) {
	set := indicator.New()
	d := quiet(set)
	payload := make([]byte, 1400)
	for n := range 200_000 {
		d.Decode(101, fragment4(byte(n), byte(n>>8), 17, payload, uint16(n), 1400*(n%8), true), int64(n))
	}
	if set.Used() > 16<<20 || set.Limits()[frame.LimitFragments] == 0 {
		t.Errorf("%d bytes, %v", set.Used(), set.Limits())
	}
	d.Close()
	if diff := cmp.Diff(int64(0), set.Used()); diff != "" {
		t.Error(diff)
	}
}

func FuzzDecode(f *testing.F) {
	in4 := ip4(1, 2, 17, udp(1000, 2000, []byte("hi")))
	f.Add(1, ether("8100 0005 0800", in4))
	f.Add(127, join("0000 0900 02000000 10", "0800 0000 020000000001 020000000002 020000000003 0000 aaaa03000000 0800", in4))
	f.Add(1, ether("0800", ip4(8, 9, 47, join("1000 22eb 00000001 200100000000000000000001 0000000000000000", ether("0800", in4)))))
	f.Add(1, ether("0800", ip4(8, 9, 17, udp(5555, 6081, join("0100 6558 00000100 01020304", ether("0800", in4))))))
	f.Add(101, ip6(1, 2, 0, join("3c00000000000000 2c00000000000000 1100000100000001", udp(1, 2, []byte("x")))))
	f.Add(101, fragment4(1, 2, 17, udp(1, 2, make([]byte, 24)), 1, 8, true))
	f.Fuzz(func(t *testing.T, linkType int, data []byte) {
		set := indicator.New()
		d := quiet(set)
		for n := range 3 {
			d.Decode(linkType, data, int64(n))
		}
		d.Close()
		if set.Used() != 0 {
			t.Fatalf("%d bytes are not given back", set.Used())
		}
	})
}
