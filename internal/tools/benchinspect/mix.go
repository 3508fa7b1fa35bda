package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"capagent/internal/pcapio"
)

// mix writes one capture of at least size bytes out of all Ethernet captures below
// the given folders, one behind the other, again and again. Each round has other
// addresses, so that its flows are new ones, and later times.
func mix(path string, folders []string, size int64) (packets int64, err error) {
	files, err := list(folders)
	if err != nil {
		return 0, err
	}
	f, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	m := mixer{out: bufio.NewWriterSize(f, 1<<20), size: 24}
	if _, err := m.out.Write(header()); err != nil {
		return 0, err
	}
	for round := byte(0); m.size < size; round++ {
		before := m.size
		for _, path := range files {
			if err := m.add(path, round); err != nil {
				return m.packets, err
			}
		}
		if m.size == before {
			return 0, errors.New("no Ethernet capture there")
		}
	}
	return m.packets, m.out.Flush()
}

// header is that of a pcap file of Ethernet with nanoseconds.
func header() []byte {
	b := binary.LittleEndian.AppendUint32(nil, 0xa1b23c4d)
	return append(b, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0)
}

func list(folders []string) ([]string, error) {
	var files []string
	for _, dir := range folders {
		err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err == nil && e.Type().IsRegular() {
				files = append(files, path)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return files, nil
}

type mixer struct {
	out     *bufio.Writer
	size    int64
	packets int64
	now     int64 // time of the last packet
	record  []byte
}

// add appends the packets of one capture; what is none adds nothing.
func (m *mixer) add(path string, round byte) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	content, err := pcapio.Unwrap(f, pcapio.DefaultBudget())
	if err != nil {
		return nil //nolint:nilerr // as said
	}
	defer func() { _ = content.Close() }()
	r, err := pcapio.NewReader(content)
	if err != nil {
		return nil //nolint:nilerr // as said
	}
	var p pcapio.Packet
	var before int64
	for r.Next(&p) == nil {
		if p.LinkType != 1 || len(p.Data) != int(p.CapLen) || p.CapLen > 256<<10 {
			continue
		}
		if step := p.Time - before; before != 0 && step > 0 && step < 10e9 {
			m.now += step
		}
		before = p.Time
		m.record = binary.LittleEndian.AppendUint32(m.record[:0], uint32(1.6e9+m.now/1e9))
		m.record = binary.LittleEndian.AppendUint32(m.record, uint32(m.now%1e9))
		m.record = binary.LittleEndian.AppendUint32(m.record, p.CapLen)
		m.record = binary.LittleEndian.AppendUint32(m.record, p.OrigLen)
		m.record = append(m.record, p.Data...)
		readdress(m.record[16:], round)
		if _, err := m.out.Write(m.record); err != nil {
			return err
		}
		m.size += int64(len(m.record))
		m.packets++
	}
	m.now += 1e9
	return nil
}

// readdress gives a frame other addresses in each round.
func readdress(b []byte, round byte) {
	at := 12
	for at+6 <= len(b) && (b[at] == 0x81 && b[at+1] == 0 || b[at] == 0x88 && b[at+1] == 0xa8) {
		at += 4
	}
	switch {
	case at+22 <= len(b) && b[at] == 8 && b[at+1] == 0:
		b[at+2+13] ^= round
		b[at+2+17] ^= round
	case at+42 <= len(b) && b[at] == 0x86 && b[at+1] == 0xdd:
		b[at+2+8+5] ^= round
		b[at+2+24+5] ^= round
	}
}
