package cloudsharktest

import (
	"errors"
	"fmt"
	"io"
	"time"

	"capagent/internal/pcapio"
)

// errCut is what the check says of a capture that is good but for its end.
var errCut = errors.New("the capture ends inside a packet")

// captureFacts is what the check learned of a capture.
type captureFacts struct {
	format        pcapio.Format
	gzip          bool
	packets       int64
	bytes         int64 // captured bytes of all packets
	first, last   time.Time
	encapsulation string
}

// checker reads a capture while it streams by, in memory that does not depend
// on the capture. It takes what Wireshark takes, but no zstd: nothing says that
// CloudShark does.
type checker struct {
	in    *io.PipeWriter
	done  chan struct{}
	facts captureFacts // after finish
	err   error
}

func newChecker() *checker {
	r, w := io.Pipe()
	c := &checker{in: w, done: make(chan struct{})}
	go func() {
		defer close(c.done)
		c.err = c.read(r)
		// What is left is taken in, so that Write never waits.
		_, _ = io.Copy(io.Discard, r)
	}()
	return c
}

// Write takes the next bytes of the capture. It never fails: finish says what
// is wrong, so that the whole body is always received.
func (c *checker) Write(p []byte) (int, error) { return c.in.Write(p) }

// finish says whether what was written is a complete capture. It must be called
// in any case and may be called again.
func (c *checker) finish() error {
	_ = c.in.Close()
	<-c.done
	return c.err
}

func (c *checker) read(r io.Reader) error {
	payload, err := pcapio.Unwrap(r, pcapio.Budget{})
	if err != nil {
		return err
	}
	defer payload.Close()
	if payload.Wrapper != "" && payload.Wrapper != pcapio.Gzip {
		return fmt.Errorf("%s is not supported", payload.Wrapper)
	}
	c.facts.gzip = payload.Wrapper == pcapio.Gzip
	in, err := pcapio.NewReader(payload)
	if err != nil {
		return err
	}
	c.facts.format = in.Format()
	var p pcapio.Packet
	for err == nil {
		if err = in.Next(&p); err == nil {
			c.packet(&p)
		}
	}
	switch links := in.LinkTypes(); len(links) {
	case 0:
	case 1:
		c.facts.encapsulation = linkName(links[0])
	default:
		c.facts.encapsulation = "Per packet"
	}
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case errors.Is(err, pcapio.ErrTruncated), errors.Is(err, io.ErrUnexpectedEOF):
		return errCut
	}
	return err
}

func (c *checker) packet(p *pcapio.Packet) {
	c.facts.packets++
	c.facts.bytes += int64(p.CapLen)
	if p.NoTime {
		return
	}
	t := time.Unix(0, p.Time)
	if c.facts.first.IsZero() || t.Before(c.facts.first) {
		c.facts.first = t
	}
	if c.facts.last.IsZero() || t.After(c.facts.last) {
		c.facts.last = t
	}
}

// linkName gives the names that CloudShark's info uses for the common link
// types (contracts/cloudshark.md 1.4 shows "Ethernet").
func linkName(link int) string {
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
		return pcapio.LinkTypeName(link)
	}
}
