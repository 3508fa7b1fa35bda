package pcapio_test

import (
	"bytes"
	"encoding/binary"
	"flag"
	"os"
	"path/filepath"
	"testing"
)

//go:generate go test -run ^TestCorpusFilesAreWhatTheGeneratorMakes$ -update

var update = flag.Bool("update", false, "write testdata/corpus")

// corpusFile is one file of testdata/corpus and what must come of it.
type corpusFile struct {
	name    string
	data    []byte
	packets int64
	end     string // how it ends: "", or the text of one of the sentinels
	// differs says why Wireshark sees another file here; "" when it agrees.
	differs string
}

const (
	cut     = "cut short"
	bad     = "damaged"
	foreign = "not a capture file"
	over    = "over budget"
)

const (
	micro    = 0xa1b2c3d4
	nano     = 0xa1b23c4d
	modified = 0xa1b2cd34
	snap     = 262144
	ethernet = 1
	t0       = 1700000000
	t0us     = t0 * 1000000
)

func orderName(o binary.AppendByteOrder) string {
	if o == bigEnd {
		return "big"
	}
	return "little"
}

func corpus() []corpusFile {
	var all []corpusFile
	for _, o := range []binary.AppendByteOrder{little, bigEnd} {
		all = append(all, goodPcap(o)...)
		all = append(all, goodPcapng(o)...)
	}
	all = append(all, wrapped()...)
	all = append(all, hostilePcap()...)
	return append(all, hostilePcapng()...)
}

func goodPcap(o binary.AppendByteOrder) []corpusFile {
	n := "good/pcap-" + orderName(o) + "-"
	three := func(m *image) []byte {
		return m.record(t0, 1, frame(10)).record(t0, 999999, frame(700)).record(t0+1, 0, frame(0)).Bytes()
	}
	// Interface 2, protocol IPv4, PACKET_OUTGOING.
	patched := append(part(o).u32(2).u16(0x0800).Bytes(), 4, 0)
	smp := append(bytes.Clone(patched), 0, 0, 0, 0)
	longer := func(extra []byte) []byte {
		m := pcapImage(o, modified, snap, ethernet)
		for i := range uint32(4) {
			m.record(t0+i, i, frame(int(20+i)), extra...)
		}
		return m.Bytes()
	}
	old := func(minor uint16, swapped bool) []byte {
		m := part(o).u32(micro).u16(2, minor).u32(0, 0, 96, ethernet)
		lengths := []uint32{60, 99}
		if swapped {
			lengths = []uint32{99, 60}
		}
		return m.u32(t0, 5).u32(lengths...).raw(frame(18)...).Bytes()
	}
	ixia := func(magic uint32) []byte {
		m := pcapImage(o, magic, snap, ethernet)
		return three(m.u32(0))
	}
	return []corpusFile{
		{name: n + "micro.pcap", data: three(pcapImage(o, micro, snap, ethernet)), packets: 3},
		{name: n + "nano.pcap", data: three(pcapImage(o, nano, snap, ethernet)), packets: 3},
		{name: n + "no-packets.pcap", data: pcapImage(o, micro, snap, ethernet).Bytes()},
		{name: n + "modified.pcap", data: longer(patched), packets: 4},
		{name: n + "modified-smp.pcap", data: longer(smp), packets: 4},
		{name: n + "ixia-nano.pcap", data: ixia(0x1c0001ac), packets: 3, differs: "time: 4.0 takes its nanoseconds for microseconds, 4.4 does not"},
		{name: n + "ixia-micro.pcap", data: ixia(0x1c0001ab), packets: 3},
		{name: n + "fcs.pcap", data: three(pcapImage(o, micro, snap, ethernet|2<<28|1<<26)), packets: 3},
		{name: n + "version-2.2.pcap", data: old(2, true), packets: 1},
		{name: n + "version-2.3-new.pcap", data: old(3, false), packets: 1},
		{name: n + "version-2.3-old.pcap", data: old(3, true), packets: 1},
		{name: n + "disorder.pcap", data: pcapImage(o, micro, snap, ethernet).
			record(t0+1, 0, frame(1)).record(t0, 0, frame(2)).record(t0+2, 0, frame(3)).Bytes(), packets: 3},
		{name: n + "raw-ip.pcap", data: pcapImage(o, micro, snap, 101).record(t0, 0, frame(4)[14:]).Bytes(), packets: 1},
		{name: n + "year-2106.pcap", data: pcapImage(o, micro, snap, ethernet).record(1<<32-1, 999999, frame(1)).Bytes(), packets: 1},
	}
}

func resol(v byte) option      { return option{code: 9, value: []byte{v}} }
func comment(s string) option  { return option{code: 1, value: []byte(s)} }
func nanoStamp(n int64) uint64 { return t0*1e9 + uint64(n) }

func goodPcapng(o binary.AppendByteOrder) []corpusFile {
	n := "good/pcapng-" + orderName(o) + "-"
	other := binary.AppendByteOrder(little)
	if o == little {
		other = bigEnd
	}
	offset := func(s int64) option { return option{code: 14, value: part(o).u64(uint64(s)).Bytes()} }
	start := func() *image { return part(o).shb() }
	everything := start().
		block(10, func(b *image) { // decryption secrets: a TLS key log
			s := "CLIENT_RANDOM 00 00\n"
			b.u32(0x544c534b, uint32(len(s))).raw([]byte(s)...)
		}).
		idb(ethernet, snap, resol(9)).
		block(4, func(b *image) { b.u16(1, 8).raw(192, 0, 2, 1, 'a', 'b', 'c', 0).u16(0, 0) }).
		epb(0, nanoStamp(1), frame(1), comment("first")).
		block(0x0000abcd, func(b *image) { b.raw(1, 2, 3, 4, 5) }).
		block(0xbad, func(b *image) { b.u32(32473).raw(9, 9, 9, 9) }).
		block(0x40000bad, func(b *image) { b.u32(32473).raw(9, 9, 9, 9) }).
		epb(0, nanoStamp(2), frame(2)).
		block(5, func(b *image) {
			b.u32(0, uint32(t0us>>32), uint32(t0us&0xffffffff)).options([]option{{code: 5, value: part(o).u64(7).Bytes()}})
		})
	two := start().idb(ethernet, snap).epb(0, t0us, frame(5))
	two.order = other
	two.shb().idb(101, snap, resol(9)).idb(ethernet, 0).epb(1, t0us+1, frame(6)).epb(0, nanoStamp(1), frame(7)[14:])
	stamps := func(r byte, units uint64, opts ...option) []byte {
		m := start().idb(ethernet, snap, append(opts, resol(r))...)
		for i := range uint64(3) {
			m.epb(0, t0*units+i*units/3, frame(int(i)))
		}
		return m.Bytes()
	}
	unpadded := start().idb(ethernet, snap)
	unpadded.u32(6, 32+61).u32(0, uint32(t0us>>32), uint32(t0us&0xffffffff), 61, 61).raw(frame(19)...).raw(0, 0, 0).u32(32 + 61)
	return []corpusFile{
		{name: n + "plain.pcapng", data: start().idb(ethernet, snap).epb(0, t0us, frame(3)).epb(0, t0us+2, frame(4)).Bytes(), packets: 2},
		{name: n + "no-packets.pcapng", data: start().idb(ethernet, snap).Bytes()},
		{name: n + "section-only.pcapng", data: start().Bytes()},
		{name: n + "options.pcapng", data: part(o).shb(comment("a comment"), option{code: 2, value: []byte("hardware")}, option{code: 3, value: []byte("os")}, option{code: 4, value: []byte("app")}).
			idb(ethernet, snap, option{code: 2, value: []byte("eth0")}, resol(6)).epb(0, t0us, frame(3), comment("x"), comment("yy")).Bytes(), packets: 1},
		{name: n + "interfaces.pcapng", data: start().idb(ethernet, snap).idb(101, snap, resol(9)).epb(1, nanoStamp(5), frame(1)[14:]).epb(0, t0us, frame(2)).Bytes(), packets: 2},
		{name: n + "every-block.pcapng", data: everything.Bytes(), packets: 2},
		{name: n + "two-sections.pcapng", data: two.Bytes(), packets: 3},
		{name: n + "nano.pcapng", data: stamps(9, 1e9), packets: 3},
		{name: n + "milli.pcapng", data: stamps(3, 1e3), packets: 3},
		{name: n + "seconds.pcapng", data: stamps(0, 1), packets: 3},
		{name: n + "power-of-two-10.pcapng", data: stamps(0x80|10, 1<<10), packets: 3},
		{name: n + "power-of-two-32.pcapng", data: stamps(0x80|32, 1<<32), packets: 3},
		{name: n + "offset.pcapng", data: stamps(6, 1e6, offset(3600)), packets: 3},
		{name: n + "offset-negative.pcapng", data: stamps(0x80|20, 1<<20, offset(-86400)), packets: 3},
		{name: n + "simple.pcapng", data: start().idb(ethernet, 50).spb(60, frame(18)[:50]).spb(43, frame(1)).Bytes(), packets: 2},
		{name: n + "obsolete.pcapng", data: start().idb(ethernet, snap).opb(0, t0us, frame(3)).opb(0, t0us+1, frame(2)).Bytes(), packets: 2},
		{name: n + "length-without-padding.pcapng", data: unpadded.Bytes(), packets: 1},
	}
}

func smallPcap() []byte {
	return pcapImage(little, micro, snap, ethernet).record(t0, 1, frame(10)).record(t0+1, 2, frame(20)).Bytes()
}

func wrapped() []corpusFile {
	file := smallPcap()
	member := gzipStored(file)
	two := append(gzipStored(file[:50]), gzipStored(file[50:])...)
	broken := bytes.Clone(member)
	broken[len(broken)-8] ^= 1 // the checksum
	skippable := append(part(little).u32(0x184d2a50, 4, 0).Bytes(), zstdImage(0, file, 0)...)
	return []corpusFile{
		{name: "good/gzip.pcap", data: member, packets: 2},
		{name: "good/gzip-two-members.pcap.gz", data: two, packets: 2},
		{name: "good/gzip-then-zeros.pcap.gz", data: append(bytes.Clone(member), make([]byte, 512)...), packets: 2, differs: "reads what follows as part of the capture"},
		{name: "good/zstd.pcap", data: zstdImage(0, file, 0), packets: 2},
		{name: "good/zstd-skippable.pcap.zst", data: skippable, packets: 2, differs: "does not know zstd by a skippable frame"},
		{name: "hostile/gzip-then-garbage.pcap.gz", data: append(bytes.Clone(member), "garbage"...), packets: 2, differs: "reads what follows as part of the capture"},
		{name: "hostile/gzip-cut-in-a-packet.pcap.gz", data: member[:60], packets: 0, end: cut},
		{name: "hostile/gzip-cut-in-the-trailer.pcap.gz", data: member[:len(member)-4], packets: 2, end: cut},
		{name: "hostile/gzip-wrong-checksum.pcap.gz", data: broken, packets: 2, end: bad, differs: "gives out nothing of a member whose checksum is wrong"},
		{name: "hostile/gzip-empty.gz", data: gzipStored(nil), end: foreign},
		{name: "hostile/gzip-in-gzip.gz", data: gzipStored(member), end: foreign},
		{name: "hostile/gzip-of-text.gz", data: gzipStored([]byte("hello, world")), end: foreign},
		{name: "hostile/gzip-header-only.gz", data: member[:9], end: foreign},
		{name: "hostile/zstd-window-4g.pcap.zst", data: zstdImage(22<<3, file, 0), end: over},
		{name: "hostile/zstd-bomb.pcap.zst", data: zstdImage(7<<3, pcapImage(little, micro, snap, ethernet).Bytes(), 200), packets: 1048576, end: over, differs: "has no budget"},
		{name: "hostile/zstd-cut.pcap.zst", data: zstdImage(0, file, 0)[:40], end: foreign},
	}
}

func hostilePcap() []corpusFile {
	head := func() *image { return pcapImage(little, micro, snap, ethernet) }
	claim := func(capLen, origLen uint32) []byte { return head().u32(t0, 0, capLen, origLen).Bytes() }
	one := head().record(t0, 0, frame(1))
	return []corpusFile{
		{name: "hostile/empty.pcap", data: nil, end: foreign},
		{name: "hostile/zeros.pcap", data: make([]byte, 64), end: foreign},
		{name: "hostile/zip.pcap", data: []byte("PK\x03\x04\x14\x00\x00\x00\x08\x00 renamed"), end: foreign},
		{name: "hostile/text.pcap", data: []byte("\x1b[2Jtext\n"), end: foreign},
		{name: "hostile/pcap-three-bytes.pcap", data: head().Bytes()[:3], end: foreign, differs: "falls back to a file of one unknown object"},
		{name: "hostile/pcap-half-header.pcap", data: head().Bytes()[:12], end: foreign},
		{name: "hostile/pcap-version-1.pcap", data: part(little).u32(micro).u16(1, 4).u32(0, 0, snap, ethernet).Bytes(), end: foreign},
		{name: "hostile/pcap-claims-4g.pcap", data: claim(1<<32-1, 1<<32-1), end: bad},
		{name: "hostile/pcap-claims-2g.pcap", data: claim(1<<31, 60), end: bad},
		{name: "hostile/pcap-claims-most.pcap", data: claim(snap, snap), end: cut},
		{name: "hostile/pcap-snaplen-4g.pcap", data: pcapImage(little, micro, 1<<32-1, ethernet).u32(t0, 0, 1<<32-1, 1<<32-1).Bytes(), end: bad},
		{name: "hostile/pcap-dbus-claims-128m.pcap", data: pcapImage(little, micro, snap, 231).u32(t0, 0, 128<<20, 128<<20).Bytes(), end: cut},
		{name: "hostile/pcap-usb-claims-4g.pcap", data: pcapImage(little, micro, snap, 249).u32(t0, 0, 1<<32-1, 1).Bytes(), end: bad},
		{name: "hostile/pcap-caplen-over-origlen.pcap", data: head().u32(t0, 0, 60, 20).raw(frame(18)...).record(t0, 1, frame(1)).Bytes(), packets: 2},
		{name: "hostile/pcap-caplen-over-snaplen.pcap", data: pcapImage(little, micro, 20, ethernet).record(t0, 0, frame(18)).Bytes(), packets: 1},
		{name: "hostile/pcap-snaplen-0.pcap", data: pcapImage(little, micro, 0, ethernet).record(t0, 0, frame(18)).Bytes(), packets: 1},
		{name: "hostile/pcap-origlen-4g.pcap", data: head().u32(t0, 0, 43, 1<<32-1).raw(frame(1)...).Bytes(), packets: 1},
		{name: "hostile/pcap-empty-packet.pcap", data: head().record(t0, 0, nil).record(t0, 1, frame(1)).Bytes(), packets: 2},
		{name: "hostile/pcap-fraction-over-a-second.pcap", data: head().record(t0, 1<<32-1, frame(1)).Bytes(), packets: 1, differs: "time: multiplies in 32 bits"},
		{name: "hostile/pcap-corrupt-in-the-middle.pcap", data: part(little).raw(one.Bytes()...).u32(0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff).record(t0, 3, frame(2)).Bytes(), packets: 1, end: bad},
		{name: "hostile/pcap-cut-in-a-record-header.pcap", data: part(little).raw(one.Bytes()...).u32(t0, 1).Bytes(), packets: 1, end: cut, differs: "takes a torn record header for the end"},
		{name: "hostile/pcap-cut-in-a-packet.pcap", data: part(little).raw(one.Bytes()...).u32(t0, 1, 60, 60).raw(1, 2, 3).Bytes(), packets: 1, end: cut},
		{name: "hostile/pcap-unknown-link-type.pcap", data: pcapImage(little, micro, snap, 65000).record(t0, 0, frame(1)).Bytes(), packets: 1, differs: "refuses link types that it cannot dissect"},
		{name: "hostile/pcap-modified-claims-4g.pcap", data: pcapImage(little, modified, snap, ethernet).u32(t0, 0, 1<<32-1, 1<<32-1, 0, 0).Bytes(), end: bad},
	}
}

func hostilePcapng() []corpusFile {
	start := func() *image { return part(little).shb().idb(ethernet, snap) }
	good := func() *image { return start().epb(0, t0us, frame(1)) }
	// patch replaces the 32-bit number at a place of a file with three blocks:
	// section (28 bytes), interface (20), packet (76).
	patch := func(at int, v uint32) []byte {
		b := bytes.Clone(good().Bytes())
		little.PutUint32(b[at:], v)
		return b
	}
	storm := make([]option, 20000)
	for i := range storm {
		storm[i] = option{code: 1}
	}
	many := part(little).shb()
	for range 16385 {
		many.idb(ethernet, snap)
	}
	lengthField := bytes.Clone(good().Bytes())
	little.PutUint64(lengthField[16:], 20)
	stamp := func(r byte, stamp uint64, opts ...option) []byte {
		return part(little).shb().idb(ethernet, snap, append(opts, resol(r))...).epb(0, stamp, frame(1)).Bytes()
	}
	offset := func(s int64) option { return option{code: 14, value: part(little).u64(uint64(s)).Bytes()} }
	const farTime = "time: outside the nanoseconds of an int64"
	files := []corpusFile{
		{name: "section-claims-4g", data: part(little).u32(0x0a0d0d0a, 1<<32-1, 0x1a2b3c4d).u16(1, 0).u64(1<<64-1).u32(0, 0, 0, 0).Bytes(), end: foreign},
		{name: "section-length-0", data: part(little).u32(0x0a0d0d0a, 0, 0x1a2b3c4d).u16(1, 0).u64(1<<64 - 1).u32(0).Bytes(), end: foreign},
		{name: "section-cut", data: good().Bytes()[:20], end: foreign, differs: "falls back to a file of one unknown object"},
		{name: "section-unknown-order", data: patch(8, 0x11223344), end: foreign},
		{name: "section-version-9", data: patch(12, 9), end: foreign},
		{name: "second-section-version-9", data: append(good().Bytes(), patch(12, 9)...), packets: 1, end: bad},
		{name: "section-length-field-wrong", data: lengthField, packets: 1},
		{name: "interface-claims-4g", data: part(little).shb().u32(1, 1<<32-1, 1).Bytes(), end: bad},
		{name: "interface-claims-128m", data: part(little).shb().u32(1, 128<<20, 1).Bytes(), end: bad},
		{name: "interface-snaplen-4g", data: patch(28+12, 1<<32-1), packets: 1},
		{name: "interface-too-short", data: part(little).shb().u32(1, 16, 1, 16).Bytes(), end: bad},
		{name: "interfaces-16385", data: many.Bytes(), end: bad, differs: "has no bound on interfaces"},
		{name: "packet-claims-4g-block", data: patch(48+4, 1<<32-1), end: bad},
		{name: "packet-claims-128m-block", data: patch(48+4, 128<<20), end: cut},
		{name: "packet-claims-4g-caplen", data: patch(48+20, 1<<32-1), end: bad},
		{name: "packet-claims-256k-caplen", data: patch(48+20, snap), end: bad},
		{name: "packet-claims-4g-origlen", data: patch(48+24, 1<<32-1), packets: 1},
		{name: "packet-length-0", data: patch(48+4, 0), end: bad},
		{name: "packet-length-misaligned", data: patch(48+4, 75), packets: 1},
		{name: "packet-length-too-small", data: patch(48+4, 28), end: bad},
		{name: "packet-trailing-length-differs", data: patch(48+72, 80), end: bad},
		{name: "unknown-claims-4g", data: append(good().Bytes(), part(little).u32(0xabcd, 1<<32-1, 0).Bytes()...), packets: 1, end: bad},
		{name: "unknown-claims-100m", data: append(good().Bytes(), part(little).u32(0xabcd, 100<<20, 0).Bytes()...), packets: 1, end: cut},
		{name: "unknown-length-0", data: append(good().Bytes(), part(little).u32(0xabcd, 0, 0).Bytes()...), packets: 1, end: bad},
		{name: "option-storm", data: part(little).shb(storm...).idb(ethernet, snap, storm...).epb(0, t0us, frame(1), storm...).Bytes(), packets: 1},
		{name: "option-leaves-interface", data: part(little).shb().idb(ethernet, snap, option{code: 2, value: []byte("eth0"), lie: 5000}).epb(0, t0us, frame(1)).Bytes(), end: bad},
		{name: "option-leaves-packet", data: start().epb(0, t0us, frame(1), option{code: 1, value: []byte("c"), lie: 60000}).Bytes(), end: bad},
		{name: "option-leaves-packet-by-a-word", data: start().epb(0, t0us, frame(1), option{code: 1, value: []byte("c"), lie: 8}).Bytes(), end: bad},
		{name: "packet-claims-a-word-more", data: patch(48+20, 47), end: bad},
		{name: "option-leaves-section", data: part(little).shb(option{code: 1, value: []byte("c"), lie: 60000}).idb(ethernet, snap).Bytes(), end: foreign},
		{name: "option-resolution-of-4-bytes", data: part(little).shb().idb(ethernet, snap, option{code: 9, value: []byte{9, 0, 0, 0}}).epb(0, t0us, frame(1)).Bytes(), packets: 1},
		{name: "packet-without-interface", data: part(little).shb().epb(0, t0us, frame(1)).Bytes(), end: bad},
		{name: "packet-of-interface-1", data: start().epb(1, t0us, frame(1)).Bytes(), end: bad},
		{name: "packet-of-interface-4g", data: start().epb(1<<32-1, t0us, frame(1)).Bytes(), end: bad},
		{name: "packet-of-last-sections-interface", data: good().shb().epb(0, t0us, frame(1)).Bytes(), packets: 1, end: bad},
		{name: "simple-without-interface", data: part(little).shb().spb(43, frame(1)).Bytes(), end: bad},
		{name: "simple-longer-than-block", data: start().spb(90, frame(1)).Bytes(), end: bad},
		{name: "resolution-10-to-19", data: stamp(19, 1<<63), packets: 1, differs: "time: multiplies in 64 bits"},
		{name: "resolution-10-to-20", data: stamp(20, 1<<63), end: bad, differs: "4.0 rounds the resolution, 4.4 refuses it"},
		{name: "resolution-10-to-127", data: stamp(127, 1<<63), end: bad, differs: "4.0 rounds the resolution, 4.4 refuses it"},
		{name: "resolution-2-to-63", data: stamp(0x80|63, 1<<63), packets: 1},
		{name: "resolution-2-to-64", data: stamp(0x80|64, 1<<63), end: bad, differs: "4.0 rounds the resolution, 4.4 refuses it"},
		{name: "time-overflow", data: stamp(0, 1<<64-1), packets: 1, differs: farTime},
		{name: "time-overflow-offset", data: stamp(6, t0us, offset(1<<62)), packets: 1, differs: farTime},
		{name: "time-overflow-sum", data: stamp(0, 1<<63-1, offset(1<<63-1)), packets: 1, differs: farTime},
		{name: "time-underflow-offset", data: stamp(6, t0us, offset(-1<<63)), packets: 1, differs: farTime},
		{name: "time-over-63-bits-and-back", data: stamp(0, 1<<63+t0, offset(-1<<63)), packets: 1},
		{name: "time-before-the-epoch", data: stamp(6, 500000, offset(-10)), packets: 1, differs: "time: prints -9.5 s as -10.5"},
		{name: "cut-in-a-block-header", data: append(good().Bytes(), 6, 0, 0, 0, 76), packets: 1, end: cut},
		{name: "cut-in-a-packet", data: good().epb(0, t0us, frame(1)).Bytes()[:124+50], packets: 1, end: cut},
		{name: "cut-in-a-trailing-length", data: good().epb(0, t0us, frame(1)).Bytes()[:124+74], packets: 1, end: cut},
		{name: "zeros-behind", data: append(good().Bytes(), make([]byte, 64)...), packets: 1, end: bad},
	}
	for i := range files {
		files[i].name = "hostile/pcapng-" + files[i].name + ".pcapng"
	}
	return files
}

func TestCorpusFilesAreWhatTheGeneratorMakes(t *testing.T) {
	root := filepath.Join("testdata", "corpus")
	names := map[string]bool{}
	for _, c := range corpus() {
		path := filepath.Join(root, filepath.FromSlash(c.name))
		if names[path] {
			t.Errorf("two files are named %s", c.name)
		}
		names[path] = true
		if *update {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, c.data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, c.data) {
			t.Errorf("%s differs from the generator (err %v): run go generate", c.name, err)
		}
	}
	err := filepath.Walk(root, func(path string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() && !names[path] {
			t.Errorf("%s is in the corpus but not made by the generator", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
