package cloudsharktest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// Bounds of what the check follows. They limit time and memory, never what a
// real capture needs.
const (
	maxPacket     = 1 << 20 // captured bytes of one packet; libpcap stops at 256 KiB
	maxBlock      = 1 << 28 // bytes of one pcapng block; secrets blocks can be large
	maxInterfaces = 1 << 16
	maxOptions    = 1 << 16 // bytes of an interface description that are parsed
	// A gzip body may inflate to gzipFree bytes whatever its size, and to
	// gzipRatio times its size beyond that.
	gzipFree  = 64 << 20
	gzipRatio = 200
)

var (
	errNotCapture = errors.New("not a pcap or pcapng file")
	errCut        = errors.New("the capture ends inside a packet")
)

// captureFacts is what the check learned of a capture.
type captureFacts struct {
	format        string // "pcap" or "pcapng"
	gzip          bool
	packets       int64
	bytes         int64 // captured bytes of all packets
	first, last   time.Time
	encapsulation string
}

// checker judges the structure of a capture while it streams by, in memory
// that does not depend on the capture. It is written apart from the agent's own
// reader on purpose: two readers that share a mistake would agree on it.
type checker struct {
	facts captureFacts
	need  int    // bytes that step wants next
	buf   []byte // gathers them across writes
	skip  int64  // bytes to pass over first
	step  func([]byte) error
	// boundary is true where a capture may end.
	boundary bool
	err      error

	order    binary.ByteOrder
	nano     bool
	extra    int // bytes of a modified pcap's record header beyond 16
	ifaces   []iface
	block    uint32
	blockLen uint32
	link     uint32
	linkSeen bool

	plain bool // gzip is not looked into: this is the inside of one
	gz    *gzipChecker
}

type iface struct {
	perSecond uint64
	offset    int64
}

func newChecker() *checker {
	c := &checker{need: 4}
	c.step = c.magic
	return c
}

// Write takes the next bytes of the capture. It reports no error of the
// capture: finish does, so that the whole body is always received.
func (c *checker) Write(p []byte) (int, error) {
	n := len(p)
	for c.err == nil && len(p) > 0 {
		if c.gz != nil {
			c.gz.write(p)
			break
		}
		p = c.consume(p)
	}
	return n, nil
}

func (c *checker) consume(p []byte) []byte {
	if c.skip > 0 {
		n := min(c.skip, int64(len(p)))
		c.skip -= n
		return p[n:]
	}
	if len(c.buf) == 0 && len(p) >= c.need {
		head := p[:c.need]
		p = p[c.need:]
		c.boundary = false
		c.err = c.step(head)
		return p
	}
	n := min(c.need-len(c.buf), len(p))
	c.buf = append(c.buf, p[:n]...)
	p = p[n:]
	if len(c.buf) == c.need {
		head := c.buf
		c.buf = c.buf[:0]
		c.boundary = false
		c.err = c.step(head)
	}
	return p
}

// finish says whether what was written is a complete capture. It must be
// called, also when the body failed, because it ends the gzip reader.
func (c *checker) finish() error {
	if c.gz != nil {
		err := c.gz.finish()
		c.facts = c.gz.inner.facts
		c.facts.gzip = true
		return err
	}
	switch {
	case c.err != nil:
		return c.err
	case c.boundary && c.skip == 0 && len(c.buf) == 0:
		return nil
	case c.facts.format == "":
		return errNotCapture
	default:
		return errCut
	}
}

func (c *checker) next(need int, skip int64, step func([]byte) error) {
	c.need, c.skip, c.step = need, skip, step
}

func (c *checker) magic(p []byte) error {
	le, be := binary.LittleEndian, binary.BigEndian
	switch {
	case be.Uint32(p) == 0x0a0d0d0a:
		c.facts.format = "pcapng"
		c.block = 0x0a0d0d0a
		c.next(8, 0, c.section)
		return nil
	case p[0] == 0x1f && p[1] == 0x8b && !c.plain:
		c.gz = startGzip(p)
		return nil
	}
	for _, order := range []binary.ByteOrder{le, be} {
		switch order.Uint32(p) {
		case 0xa1b2c3d4:
		case 0xa1b23c4d:
			c.nano = true
		case 0xa1b2cd34: // the "modified" format of Kuznetzov's libpcap patches
			c.extra = 8
		default:
			continue
		}
		c.order = order
		c.facts.format = "pcap"
		c.next(20, 0, c.fileHeader)
		return nil
	}
	return errNotCapture
}

func (c *checker) fileHeader(p []byte) error {
	if major := c.order.Uint16(p); major != 2 {
		return fmt.Errorf("%w: pcap version %d", errNotCapture, major)
	}
	c.sawLink(c.order.Uint32(p[16:]) & 0xffff)
	c.record(0)
	return nil
}

func (c *checker) record(skip int64) {
	c.next(16+c.extra, skip, c.recordHeader)
	c.boundary = true
}

func (c *checker) recordHeader(p []byte) error {
	caplen := c.order.Uint32(p[8:])
	if caplen > maxPacket {
		return fmt.Errorf("%w: packet %d claims %d bytes", errNotCapture, c.facts.packets+1, caplen)
	}
	frac := int64(c.order.Uint32(p[4:]))
	if !c.nano {
		frac *= 1000
	}
	c.packet(time.Unix(int64(c.order.Uint32(p)), frac), caplen)
	c.record(int64(caplen))
	return nil
}

func (c *checker) packet(t time.Time, caplen uint32) {
	c.facts.packets++
	c.facts.bytes += int64(caplen)
	if t.IsZero() {
		return
	}
	if c.facts.first.IsZero() || t.Before(c.facts.first) {
		c.facts.first = t
	}
	if t.After(c.facts.last) {
		c.facts.last = t
	}
}

func (c *checker) sawLink(link uint32) {
	if c.linkSeen && link != c.link {
		c.facts.encapsulation = "Per packet"
		return
	}
	c.linkSeen, c.link = true, link
	c.facts.encapsulation = linkName(link)
}

// linkName gives the names that CloudShark's info uses for the common link
// types (contracts/cloudshark.md 1.4 shows "Ethernet").
func linkName(link uint32) string {
	switch link {
	case 0:
		return "NULL/Loopback"
	case 1:
		return "Ethernet"
	case 101:
		return "Raw IP"
	case 105:
		return "IEEE 802.11 Wireless LAN"
	case 113:
		return "Linux cooked-mode capture v1"
	case 127:
		return "IEEE 802.11 plus radiotap radio header"
	case 276:
		return "Linux cooked-mode capture v2"
	default:
		return fmt.Sprintf("Link type %d", link)
	}
}
