package afpacket

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// What the kernel writes into a ring, seen as what it is. Blocks begin at pages
// and frames at multiples of 8 bytes, so that nothing is unaligned.

// blockAt is where a block's header begins, behind version and private offset.
const blockAt = 8

// status is the word with which a block changes hands. It is read and written
// atomically, which orders everything else in the block.
func status(block []byte) *uint32 {
	return (*uint32)(unsafe.Pointer(&block[blockAt])) //nolint:gosec // shared with the kernel
}

func header(block []byte) *unix.TpacketHdrV1 {
	return (*unix.TpacketHdrV1)(unsafe.Pointer(&block[blockAt])) //nolint:gosec // shared with the kernel
}

func frame(block []byte, off uint32) *unix.Tpacket3Hdr {
	return (*unix.Tpacket3Hdr)(unsafe.Pointer(&block[off])) //nolint:gosec // shared with the kernel
}

func address(block []byte, off uint32) *unix.RawSockaddrLinklayer {
	return (*unix.RawSockaddrLinklayer)(unsafe.Pointer(&block[off])) //nolint:gosec // shared with the kernel
}
