package main

import (
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// conn is a TCP connection without loss: every byte that one side sends is
// acknowledged by the other.
type conn struct {
	t              *trace
	client, server endpoint
	ports          [2]uint16
	seq            [2]uint32
	rtt            time.Duration
}

const (
	byClient = 0
	byServer = 1
)

// dial records the three-way handshake.
func (t *trace) dial(client endpoint, port uint16, server endpoint, serverPort uint16, rtt time.Duration) *conn {
	c := &conn{
		t: t, client: client, server: server, rtt: rtt,
		ports: [2]uint16{port, serverPort},
		seq:   [2]uint32{uint32(port) * 2654435761, uint32(port)*40503 + 0x10325476},
	}
	c.segment(byClient, &layers.TCP{SYN: true, Options: c.options()}, nil)
	t.wait(rtt)
	c.segment(byServer, &layers.TCP{SYN: true, ACK: true, Options: c.options()}, nil)
	t.wait(41 * time.Microsecond)
	c.segment(byClient, &layers.TCP{ACK: true}, nil)
	return c
}

func (c *conn) mss() int {
	if c.client.ip.Is4() {
		return 1460
	}
	return 1440
}

func (c *conn) options() []layers.TCPOption {
	return []layers.TCPOption{
		{OptionType: layers.TCPOptionKindMSS, OptionLength: 4, OptionData: []byte{byte(c.mss() >> 8), byte(c.mss())}},
		{OptionType: layers.TCPOptionKindNop},
		{OptionType: layers.TCPOptionKindWindowScale, OptionLength: 3, OptionData: []byte{7}},
		{OptionType: layers.TCPOptionKindNop},
		{OptionType: layers.TCPOptionKindNop},
		{OptionType: layers.TCPOptionKindSACKPermitted, OptionLength: 2},
	}
}

// segment records one segment by one side and moves its sequence number on.
func (c *conn) segment(by int, h *layers.TCP, data []byte) {
	from, to := c.client, c.server
	if by == byServer {
		from, to = to, from
	}
	h.SrcPort, h.DstPort = layers.TCPPort(c.ports[by]), layers.TCPPort(c.ports[1-by])
	h.Seq = c.seq[by]
	if h.ACK {
		h.Ack = c.seq[1-by]
	}
	h.Window = 64240
	if !h.SYN {
		h.Window = 502
	}
	c.t.ip(from, to, layers.IPProtocolTCP, h, gopacket.Payload(data))
	c.seq[by] += uint32(len(data))
	if h.SYN || h.FIN {
		c.seq[by]++
	}
}

// send records data in segments, with an acknowledgement for every second one
// and for the last.
func (c *conn) send(by int, data []byte) {
	c.t.wait(c.rtt / 2)
	for n := 1; len(data) > 0; n++ {
		size := min(c.mss(), len(data))
		last := size == len(data)
		c.segment(by, &layers.TCP{ACK: true, PSH: last}, data[:size])
		data = data[size:]
		c.t.wait(12347 * time.Nanosecond)
		if last || n%2 == 0 {
			c.segment(1-by, &layers.TCP{ACK: true}, nil)
			c.t.wait(83011 * time.Nanosecond)
		}
	}
}

// close records an orderly teardown that one side begins.
func (c *conn) close(by int) {
	c.t.wait(c.rtt)
	c.segment(by, &layers.TCP{FIN: true, ACK: true}, nil)
	c.t.wait(c.rtt / 2)
	c.segment(1-by, &layers.TCP{FIN: true, ACK: true}, nil)
	c.t.wait(c.rtt / 2)
	c.segment(by, &layers.TCP{ACK: true}, nil)
}
