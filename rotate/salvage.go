package rotate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"capagent/internal/packet"
	"capagent/internal/pcapio"
	"capagent/internal/quote"
	"capagent/internal/safefile"
)

// Salvage seals the files that a killed Rotator has left in dir: each is cut
// behind its last whole record and told with the reason Recovered; one without a
// packet is removed. What is being written is left alone, also when another
// process does that: each writer holds a lock on its file. On file systems
// without locks the caller must know that there is none.
//
// Damage that is not a torn end is kept and told with an Err. A file that can't be
// sealed is told with an Err, too, and stays. The returned error is about dir.
func Salvage(dir string, tell func(Sealed)) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("salvage %s: %w", quote.Path(dir), safefile.Cause(err))
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || !isPart(e.Name()) {
			continue
		}
		s, err := salvage(filepath.Join(dir, e.Name()))
		if errors.Is(err, errHeld) || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			s.Err = err
		}
		if s.Path != "" {
			tell(s)
		}
	}
	return nil
}

// salvage seals one file; Path is "" when it was removed.
func salvage(part string) (Sealed, error) {
	s := Sealed{Path: part, Reason: Recovered}
	failed := func(err error) (Sealed, error) {
		return s, fmt.Errorf("salvage %s: %w", quote.Path(part), rootCause(err))
	}
	f, err := hold(part)
	if err != nil {
		return failed(err)
	}
	defer func() { _ = f.Close() }()
	c, err := read(f)
	damaged := errors.Is(err, pcapio.ErrFormat) || errors.Is(err, pcapio.ErrTruncated)
	switch {
	case err == nil, damaged:
	case errors.Is(err, pcapio.ErrNotCapture):
		// Fine where it is the beginning of a header and no more.
		if info, serr := f.Stat(); serr != nil || info.Size() >= leastHeader && !c.zeros {
			return failed(errors.Join(err, serr))
		}
	default:
		return failed(err)
	}
	if c.packets == 0 && !damaged {
		if err := os.Remove(part); err != nil {
			return failed(err)
		}
		return Sealed{}, nil
	}
	c.describe(&s)
	if damaged {
		if info, err := f.Stat(); err == nil {
			s.Size = info.Size()
		}
		s.Err = fmt.Errorf("salvage %s: %w", quote.Path(part), err)
	} else if err := f.Truncate(c.size); err != nil { // gives back what was preallocated, too
		return failed(err)
	}
	if err := f.Sync(); err != nil {
		return failed(err)
	}
	path, err := freeName(strings.TrimSuffix(part, Part))
	if err != nil {
		return failed(err)
	}
	if err := publish(part, path, true); err != nil {
		return failed(err)
	}
	s.Path = path
	return s, nil
}

// leastHeader is the size from which on a file that is none is somebody else's:
// the smallest header of a pcapng section.
const leastHeader = 28

// freeName is path, or another name like it when that is taken.
func freeName(path string) (string, error) {
	ext := filepath.Ext(path)
	base := strings.TrimSuffix(path, ext)
	for i := range 1000 {
		name := path
		if i > 0 {
			name = fmt.Sprintf("%s%03d%s", base, i, ext) // a longer number, which sorts behind
		}
		if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			return name, nil
		} else if err != nil {
			return "", err
		}
	}
	return "", fs.ErrExist
}

// contents is what can be read of a file.
type contents struct {
	format      pcapio.Format
	packets     uint64
	size        int64 // up to the last whole record
	first, last int64
	interfaces  []packet.Interface
	zeros       bool // nothing but zeros, or nothing at all
}

// look reads a file that is complete.
func look(path string) (contents, error) {
	f, _, err := safefile.Open(path)
	if err != nil {
		return contents{}, err
	}
	defer func() { _ = f.Close() }()
	return read(f)
}

// read reads f to its end, or to what a killed writer or a power cut has torn.
func read(f *os.File) (contents, error) {
	var c contents
	r, err := pcapio.NewReader(f)
	if err != nil {
		c.zeros = onlyZeros(f, 0)
		return c, err
	}
	c.format = r.Format()
	r.Describe(pcapio.Described{Interface: func(i pcapio.Interface) {
		if len(c.interfaces) < mostInterfaces {
			c.interfaces = append(c.interfaces, packet.Interface{
				Name: i.Name, Description: i.Description, LinkType: i.LinkType, SnapLen: i.SnapLen, Filter: i.Filter, MAC: i.MAC, Speed: i.Speed,
			})
		}
	}})
	if c.format == pcapio.Pcap {
		c.interfaces = []packet.Interface{{LinkType: r.LinkTypes()[0], SnapLen: r.SnapLen()}}
	}
	c.size = r.Offset()
	var p pcapio.Packet
	empty := uint64(0) // pcap records of zeros alone, which a power cut leaves at the end
	for {
		if err := r.Next(&p); err != nil {
			return c, c.ended(f, r.Offset(), err)
		}
		if c.format == pcapio.Pcap && p.Time == 0 && p.OrigLen == 0 && p.CapLen == 0 {
			empty++
			continue
		}
		c.size = r.Offset()
		if c.packets == 0 {
			c.first, c.last = p.Time, p.Time
		}
		c.first, c.last = min(c.first, p.Time), max(c.last, p.Time)
		c.packets += 1 + empty
		empty = 0
	}
}

// ended sets what is whole of a pcapng file of which off bytes were read, and
// leaves of what ended it only damage and failures.
func (c *contents) ended(f *os.File, off int64, err error) error {
	ng := c.format == pcapio.Pcapng
	var short *pcapio.TruncatedError
	var damage *pcapio.FormatError
	switch {
	case errors.Is(err, io.EOF):
		if ng { // blocks that are no packets, too
			c.size = off
		}
		return nil
	case errors.As(err, &short):
		if ng {
			c.size = short.Offset
		}
		if !ng || blockSize(f, c.size) <= longest {
			return nil
		}
	case errors.As(err, &damage):
		if ng {
			c.size = damage.Offset
		}
		if onlyZeros(f, c.size) || ng && tornByZeros(f, c.size) {
			return nil
		}
	}
	return err
}

// longest bounds what a Rotator writes as one record. One that is said to be
// longer, and so not to end within the file, is damage.
const longest = 1 << 20

// blockSize is what the pcapng block at off says its size is, as far as it can be
// read.
func blockSize(f *os.File, off int64) int64 {
	var head [8]byte
	if n, _ := f.ReadAt(head[:], off); n < len(head) {
		return 0
	}
	return int64(binary.LittleEndian.Uint32(head[4:]))
}

// tornByZeros reports whether the pcapng block at off is the last one and lacks
// its end, as a power cut leaves it that came before the bytes and after the size.
func tornByZeros(f *os.File, off int64) bool {
	size := blockSize(f, off)
	info, err := f.Stat()
	return err == nil && size >= 12 && off+size <= info.Size() && onlyZeros(f, off+size-4)
}

// onlyZeros reports whether f has nothing else from there on.
func onlyZeros(f *os.File, from int64) bool {
	b := make([]byte, 64<<10)
	for {
		n, err := f.ReadAt(b, from)
		for _, c := range b[:n] {
			if c != 0 {
				return false
			}
		}
		from += int64(n)
		if err != nil {
			return errors.Is(err, io.EOF)
		}
	}
}

func (c *contents) describe(s *Sealed) {
	s.Format, s.Packets, s.Size, s.Interfaces = c.format, c.packets, c.size, c.interfaces
	s.First, s.Last = at(c.first), at(c.last)
}

func rootCause(err error) error {
	var l *os.LinkError
	if errors.As(err, &l) {
		return l.Err
	}
	return safefile.Cause(err)
}
