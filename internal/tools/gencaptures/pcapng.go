package main

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// Block types and options of pcapng (draft-ietf-opsawg-pcapng). gopacket's
// writer knows neither time resolutions nor names nor secrets, so the few blocks
// are built here.
const (
	blockSection    = 0x0a0d0d0a
	blockInterface  = 1
	blockNames      = 4
	blockStatistics = 5
	blockPacket     = 6
	blockSecrets    = 10

	optionComment     = 1
	optionHardware    = 2 // section
	optionOS          = 3 // section
	optionApplication = 4 // section

	optionName        = 2 // interface
	optionDescription = 3 // interface
	optionResolution  = 9 // interface

	optionReceived = 4 // statistics
	optionDropped  = 5 // statistics

	nameIPv4   = 1
	nameIPv6   = 2
	secretsTLS = 0x544c534b
)

// netInterface is one interface of a pcapng section.
type netInterface struct {
	name, description string
	linkType          uint16
	resolution        uint8 // n of 10^-n s; 0 leaves the option out, which means 6
	dropped           uint64
}

func (i netInterface) units(at time.Time) uint64 {
	n := i.resolution
	if n == 0 {
		n = 6
	}
	unit := uint64(1)
	for ; n < 9; n++ {
		unit *= 10
	}
	return uint64(at.UnixNano()) / unit
}

// ngFile builds one little-endian pcapng section.
type ngFile struct{ data []byte }

// block appends a block; its body ends with the options, if any.
func (f *ngFile) block(kind uint32, body []byte) {
	size := uint32(12 + len(pad(body)))
	f.data = binary.LittleEndian.AppendUint32(f.data, kind)
	f.data = binary.LittleEndian.AppendUint32(f.data, size)
	f.data = append(f.data, pad(body)...)
	f.data = binary.LittleEndian.AppendUint32(f.data, size)
}

// option appends one option or name record: both are code, length, padded value.
func option(b []byte, code uint16, value []byte) []byte {
	b = binary.LittleEndian.AppendUint16(b, code)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(value)))
	return append(b, pad(value)...)
}

func endOptions(b []byte) []byte { return option(b, 0, nil) }

func pad(b []byte) []byte {
	return append(b[:len(b):len(b)], make([]byte, -len(b)&3)...)
}

func (f *ngFile) section(comment string) {
	b := binary.LittleEndian.AppendUint32(nil, 0x1a2b3c4d)
	b = append(b, 1, 0, 0, 0)                           // version 1.0
	b = binary.LittleEndian.AppendUint64(b, ^uint64(0)) // length not given
	b = option(b, optionComment, []byte(comment))
	b = option(b, optionHardware, []byte("demonstration"))
	b = option(b, optionOS, []byte("none"))
	b = option(b, optionApplication, []byte("gencaptures"))
	f.block(blockSection, endOptions(b))
}

func (f *ngFile) netInterface(i netInterface) {
	b := binary.LittleEndian.AppendUint16(nil, i.linkType)
	b = append(b, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, snapLen)
	b = option(b, optionName, []byte(i.name))
	b = option(b, optionDescription, []byte(i.description))
	if i.resolution != 0 {
		b = option(b, optionResolution, []byte{i.resolution})
	}
	f.block(blockInterface, endOptions(b))
}

// names appends a name resolution block.
func (f *ngFile) names(records ...answer) {
	var b []byte
	for _, r := range records {
		ip, kind := netip.MustParseAddr(r.data), uint16(nameIPv4)
		if !ip.Is4() {
			kind = nameIPv6
		}
		b = option(b, kind, append(append(ip.AsSlice(), r.name...), 0))
	}
	f.block(blockNames, endOptions(b)) // ends the records; there are no options
}

// secrets appends a decryption secrets block with a TLS key log.
func (f *ngFile) secrets(keyLog []byte) {
	b := binary.LittleEndian.AppendUint32(nil, secretsTLS)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(keyLog)))
	f.block(blockSecrets, append(b, keyLog...))
}

func (f *ngFile) packet(p packet, i netInterface) {
	at := i.units(p.at)
	b := binary.LittleEndian.AppendUint32(nil, uint32(p.iface))
	b = binary.LittleEndian.AppendUint32(b, uint32(at>>32))
	b = binary.LittleEndian.AppendUint32(b, uint32(at))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(p.data)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(p.data)))
	b = append(b, pad(p.data)...)
	if p.comment != "" {
		b = endOptions(option(b, optionComment, []byte(p.comment)))
	}
	f.block(blockPacket, b)
}

func (f *ngFile) statistics(id int, i netInterface, at time.Time, received uint64) {
	b := binary.LittleEndian.AppendUint32(nil, uint32(id))
	b = binary.LittleEndian.AppendUint32(b, uint32(i.units(at)>>32))
	b = binary.LittleEndian.AppendUint32(b, uint32(i.units(at)))
	b = option(b, optionReceived, binary.LittleEndian.AppendUint64(nil, received))
	b = option(b, optionDropped, binary.LittleEndian.AppendUint64(nil, i.dropped))
	f.block(blockStatistics, endOptions(b))
}
