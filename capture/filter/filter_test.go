package filter_test

import (
	"context"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"capagent/capture/filter"
)

// frame makes packet data of hexadecimal digits.
func frame(t *testing.T, parts ...string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(strings.Join(parts, ""), " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const (
	ether4 = "020000000001 020000000002 0800 "
	ether6 = "020000000001 020000000002 86dd "
	// 10.0.0.1 -> 10.0.0.2, no fragment
	tcp4  = "4500 0028 0000 0000 4006 0000 0a000001 0a000002 "
	udp4  = "4500 001c 0000 0000 4011 0000 0a000001 0a000002 "
	frag4 = "4500 001c 0000 0003 4011 0000 0a000001 0a000002 "
	// 2001:db8::1 -> 2001:db8::2
	udp6     = "60000000 0008 11 40 20010db8000000000000000000000001 20010db8000000000000000000000002 "
	port5380 = "0035 0050 0008 0000 "
	synTo80  = "0400 0050 00000001 00000000 5002 ffff 0000 0000 "
)

func TestMatch(t *testing.T) {
	tcp := frame(t, ether4, tcp4, synTo80)
	udp := frame(t, ether4, udp4, port5380)
	frag := frame(t, ether4, frag4, port5380)
	six := frame(t, ether6, udp6, port5380)
	tagged := frame(t, "020000000001 020000000002 8100 0064 0800 ", udp4, port5380)
	circle := frame(t, ether4, "4500 0020 0000 0000 4033 0000 0a000001 0a000002 33 03 0000 00000000 00000000")
	for _, c := range []struct {
		expr   string
		packet []byte
		want   bool
	}{
		{"", tcp, true},
		{"tcp", tcp, true},
		{"tcp", udp, false},
		{"! tcp", udp, true},
		{"port 80", tcp, true},
		{"src port 80", tcp, false},
		{"udp port 53", six, true},
		{"port 53", frag, false},
		{"udp", frag, true},
		{"port 22 or 53", udp, true},
		{"port (22 or 53)", udp, true},
		{"host 10.0.0.2", udp, true},
		{"src net 10.0.0.0/31", udp, true},
		{"net 2001:db8::/32", six, true},
		// "and" and "or" bind alike, from left to right.
		{"tcp or udp and port 22", tcp, false},
		{"tcp or (udp and port 22)", tcp, true},
		{"tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn", tcp, true},
		{"tcp[13] & 2 = 0", tcp, false},
		{"ip[0] & 0xf = 5", udp, true},
		{"udp[4:2] > 7", udp, true},
		{"len - 14 = 28", udp, true},
		{"10 / ip[1] = 0", udp, false}, // divided by zero
		{"ether[len] = 0 or ip", udp, false},
		{"vlan", tagged, true},
		{"vlan 100 and udp port 53", tagged, true},
		{"vlan 101", tagged, false},
		{"udp", tagged, false},
		{"vlan", udp, false},
		{"less 42", udp, true},
		{"greater 43", udp, false},
		{"ip protochain 17", udp, true},
		{"ip protochain 6", circle, false}, // AH after AH after AH
		{"ip protochain 51", circle, true},
		{"ether proto \\ip", udp, true},
		{"ether host 02:00:00:00:00:02", udp, true},
	} {
		p, err := filter.Compile(context.Background(), c.expr, filter.Options{LinkType: 1})
		if err != nil {
			t.Errorf("%q: %v", c.expr, err)
			continue
		}
		if got := p.Match(c.packet, uint32(len(c.packet))); got != c.want {
			t.Errorf("%q on %x: %v", c.expr, c.packet, got)
		}
	}
}

func TestErrorsTellWhere(t *testing.T) {
	for _, c := range []struct {
		expr string
		pos  int
		text string
	}{
		{"port", 4, "unexpected end"},
		{"tcp port 80 or", 14, "unexpected end"},
		{"host 10.0.0.256", 5, "invalid IPv4 address"},
		{"net 10.0.0.1/8", 4, "outside the mask"},
		{"(tcp", 0, "not closed"},
		{"tcp)", 3, "unexpected"},
		{"tcp and ip[0:3] = 1", 8, "3 bytes"},
		{"vlan 4096", 0, "greater than 4095"},
		{"ip and inbound", 7, "direction"},
		{"10.0.0.1", 0, "keyword"},
		{"ip # x", 3, "unexpected character"},
		{"ip and arp", 0, "no packet can pass"},
		{"len / 0 = 1", 4, "division by zero"},
		{"ip broadcast", 3, "netmask"},
		{"vpi 3", 0, "SUNATM"},
	} {
		_, err := filter.Compile(context.Background(), c.expr, filter.Options{LinkType: 1})
		var e *filter.Error
		if !errors.As(err, &e) {
			t.Errorf("%q: %v", c.expr, err)
			continue
		}
		if e.Pos != c.pos || !strings.Contains(e.Text, c.text) || e.Expr != c.expr {
			t.Errorf("%q: at %d: %s", c.expr, e.Pos, e.Text)
		}
	}
}

func TestMatchDoesNotAllocate(t *testing.T) {
	p, err := filter.Compile(context.Background(), "vlan 100 and udp port 53", filter.Options{LinkType: 1})
	if err != nil {
		t.Fatal(err)
	}
	packet := frame(t, "020000000001 020000000002 8100 0064 0800 ", udp4, port5380)
	if n := testing.AllocsPerRun(100, func() { p.Match(packet, uint32(len(packet))) }); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}
