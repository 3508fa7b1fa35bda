package cloudsharktest

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
)

// bytesOf reads hexadecimal digits; spaces stand for nothing.
func bytesOf(t *testing.T, digits string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(digits, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestAPacketIsToldInOneLine(t *testing.T) {
	const (
		macs = "020000000002 020000000001"
		v4   = "c0000201 c6336402"
		v6   = "20010db8000000000000000000000001 20010db8000000000000000000000002"
		dns  = "0035 1000 0032 0000 12b0 8183 0001 0001 0000 0000 0161 00 000a 0001 c00c 0005 0001 00000000 0002 c00c"
	)
	for _, c := range []struct {
		name, packet string
		link         int
		want         row
	}{
		{"question for an address", macs + "0806 0001 0800 06 04 0001 020000000001 c0000201 000000000000 c6336402", 1, row{
			Source: "02:00:00:00:00:01", Destination: "02:00:00:00:00:02", Protocol: "ARP", Class: "arp", Info: "Who has 198.51.100.2? Tell 192.0.2.1",
		}},
		{"addresses longer than the packet", macs + "0806 0001 0800 ff ff 0001 0200", 1, row{
			Source: "02:00:00:00:00:01", Destination: "02:00:00:00:00:02", Protocol: "Ethernet", Info: "type 0x0806",
		}},
		{"tag within a tag", macs + "88a8 0005 8100 0007 1234", 1, row{
			Source: "02:00:00:00:00:01", Destination: "02:00:00:00:00:02", Protocol: "VLAN", Info: "VLAN 7",
		}},
		{"port unreachable", "45000024 00000000 40010000" + v4 + "0303 0000 00000000", 101, row{
			Source: "192.0.2.1", Destination: "198.51.100.2", Protocol: "ICMP", Class: "icmp", Info: "DestinationUnreachable(Port)",
		}},
		{"fragment", "45000024 00002001 40110000" + v4 + "0303", 101, row{
			Source: "192.0.2.1", Destination: "198.51.100.2", Protocol: "IPv4", Info: "fragment at 8",
		}},
		{"header beyond the packet", "4f000024 00000000 40110000" + v4, 101, row{Protocol: "other", Info: "[malformed]"}},
		{"DNS", "45000046 00000000 40110000" + v4 + dns, 101, row{
			Source: "192.0.2.1", Destination: "198.51.100.2", Protocol: "DNS", Class: "dns", Info: "response 0x12b0 NULL a Non-Existent Domain CNAME a",
		}},
		{"later fragment behind options", "60000000 0018 00 40" + v6 + "2c00 0104 00000000 1100 0018 00000001" + "0000000000000000", 229, row{
			Source: "2001:db8::1", Destination: "2001:db8::2", Protocol: "IPv6", Info: "fragment at 24",
		}},
		{"neighbour", "60000000 0008 3a ff" + v6 + "8700 0000 00000000", 229, row{
			Source: "2001:db8::1", Destination: "2001:db8::2", Protocol: "ICMPv6", Class: "icmp", Info: "NeighborSolicitation",
		}},
		{"cooked, second version", "0806 0000 00000002 0001 00 06 0200000000010000 0001 0800 06 04 0002 020000000001 c0000201 000000000000 c6336402", 276, row{
			Protocol: "ARP", Class: "arp", Info: "192.0.2.1 is at 02:00:00:00:00:01",
		}},
		{"link that nobody knows", "00", 147, row{Protocol: "other"}},
	} {
		if got := dissect(bytesOf(t, c.packet), c.link); got != c.want {
			t.Errorf("%s:\n got %+v\nwant %+v", c.name, got, c.want)
		}
	}
}

func TestHeadersWithinHeadersEnd(t *testing.T) {
	tags := bytes.Repeat([]byte{2}, 12)
	for n := range byte(100) {
		tags = append(tags, 0x81, 0, 0, n+1)
	}
	if got := dissect(tags, 1); got.Info != fmt.Sprintf("VLAN %d", maxHeaders-1) {
		t.Errorf("%+v", got)
	}
	var inner []byte
	for range 3000 {
		inner = append(inner, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, 4, 0, 0, 192, 0, 2, 1, 198, 51, 100, 2)
	}
	if got := dissect(inner, 101); got.Protocol != "IPv4" || got.Info != "protocol IPv4" {
		t.Errorf("%+v", got)
	}
}
