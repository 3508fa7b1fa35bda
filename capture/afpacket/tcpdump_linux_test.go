package afpacket_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"capagent/internal/pcapio"
	"capagent/internal/traffic"
)

// tcpdump captures beside us; what it returns stops it and reads its file.
func tcpdump(t *testing.T, p *traffic.Pair, iface string, args ...string) (stop func() []pcapio.Packet) {
	t.Helper()
	if _, err := exec.LookPath("tcpdump"); err != nil {
		t.Skip(err)
	}
	file := filepath.Join(t.TempDir(), "tcpdump.pcap")
	args = append([]string{"-Z", "root", "--immediate-mode", "-U", "-n", "-B", "131072", "-i", iface, "-w", file}, args...)
	c := p.Command(context.Background(), traffic.RX, "tcpdump", args...)
	stderr, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill() })
	for said, n := make([]byte, 4096), 0; !strings.Contains(string(said[:n]), "listening"); {
		k, err := stderr.Read(said[n:])
		if n += k; err != nil {
			t.Fatalf("tcpdump: %s", said[:n])
		}
	}
	rest := make(chan []byte)
	go func() {
		b, _ := io.ReadAll(stderr)
		rest <- b
	}()
	return func() []pcapio.Packet {
		t.Helper()
		time.Sleep(100 * time.Millisecond) // it has no other sign of being done
		_ = c.Process.Signal(syscall.SIGINT)
		said := <-rest
		if err := c.Wait(); err != nil {
			t.Fatalf("tcpdump: %v: %s", err, said)
		}
		if !bytes.Contains(said, []byte("\n0 packets dropped by kernel")) {
			t.Fatalf("tcpdump: %s", said)
		}
		return readFile(t, file)
	}
}

func readFile(t *testing.T, path string) (list []pcapio.Packet) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := pcapio.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for {
		var p pcapio.Packet
		if err := r.Next(&p); errors.Is(err, io.EOF) {
			return list
		} else if err != nil {
			t.Fatal(err)
		}
		p.Data = bytes.Clone(p.Data)
		list = append(list, p)
	}
}

// wantSame fails unless ours are tcpdump's packets, byte by byte.
func wantSame(t *testing.T, ours []record, theirs []pcapio.Packet) {
	t.Helper()
	for i := range min(len(ours), len(theirs)) {
		if !bytes.Equal(ours[i].Data, theirs[i].Data) {
			t.Fatalf("packet %d:\n% x\ntcpdump has\n% x", i, head(ours[i].Data), head(theirs[i].Data))
		}
		if theirs[i].OrigLen != ours[i].Length {
			t.Fatalf("packet %d was %d bytes long, tcpdump says %d", i, ours[i].Length, theirs[i].OrigLen)
		}
	}
	if len(ours) != len(theirs) || len(ours) == 0 {
		t.Fatalf("%d packets, tcpdump has %d", len(ours), len(theirs))
	}
}

func head(b []byte) []byte { return b[:min(len(b), 80)] }

// pcapFile writes records for tshark.
func pcapFile(t *testing.T, linkType uint32, records []record) string {
	t.Helper()
	le := binary.LittleEndian
	var b []byte
	for _, v := range []uint32{0xa1b23c4d, 4<<16 | 2, 0, 0, 262144, linkType} {
		b = le.AppendUint32(b, v)
	}
	for _, r := range records {
		b = le.AppendUint32(b, uint32(r.Time/1e9))
		b = le.AppendUint32(b, uint32(r.Time%1e9))
		b = le.AppendUint32(b, uint32(len(r.Data)))
		b = le.AppendUint32(b, r.Length)
		b = append(b, r.Data...)
	}
	path := filepath.Join(t.TempDir(), "ours.pcap")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// tshark returns fields of each packet, separated by tabs.
func tshark(t *testing.T, file string, fields ...string) []string {
	t.Helper()
	if _, err := exec.LookPath("tshark"); err != nil {
		t.Skip(err)
	}
	args := []string{"-n", "-r", file, "-T", "fields"}
	for _, f := range fields {
		args = append(args, "-e", f)
	}
	out, err := exec.Command("tshark", args...).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
}

var tagCases = map[string][]traffic.Tag{
	"none":     nil,
	"vlan":     {{TCI: 100}},
	"priority": {{TCI: 0}},
	"pcp":      {{TCI: 7<<13 | 1<<12 | 4095}},
	"qinq":     {{TPID: 0x88a8, TCI: 200}, {TCI: 100}},
	"twice":    {{TCI: 200}, {TCI: 100}},
	"88a8":     {{TPID: 0x88a8, TCI: 300}},
	"three":    {{TPID: 0x88a8, TCI: 1}, {TCI: 2}, {TCI: 3}},
	"9100":     {{TPID: 0x9100, TCI: 1}, {TCI: 2}},
}

func TestTagsAreWhatTcpdumpShows(t *testing.T) {
	t.Parallel()
	p := newPair(t, traffic.Options{})
	for name, tags := range tagCases {
		t.Run(name, func(t *testing.T) {
			s := begin(t, p, settings{Options: rx()})
			stop := tcpdump(t, p, "vethrx")
			send(t, p, traffic.Load{Size: 300, Count: 50, Tags: tags})
			theirs, ours := stop(), s.stop()
			wantAll(t, ours, 50, true)
			wantSame(t, ours, theirs)
			for _, r := range ours {
				at := 12
				for _, tag := range tags {
					tpid := tag.TPID
					if tpid == 0 {
						tpid = 0x8100
					}
					if got := binary.BigEndian.Uint32(r.Data[at:]); got != uint32(tpid)<<16|uint32(tag.TCI) {
						t.Fatalf("tag %08x, want %04x %04x", got, tpid, tag.TCI)
					}
					at += 4
				}
			}
		})
	}
}

func TestAnyIsWhatTcpdumpShows(t *testing.T) {
	t.Parallel()
	p := newPair(t, traffic.Options{})
	c := settings{Options: rx()}
	c.Interfaces = []string{"any"}
	s := begin(t, p, c)
	stop := tcpdump(t, p, "any", "-y", "LINUX_SLL2")
	send(t, p, traffic.Load{Size: 300, Count: 50})
	send(t, p, traffic.Load{Size: 60, Count: 50, First: 50})
	loopback(t, p)
	theirs, ours := stop(), s.stop()
	wantAll(t, ours, 100, true)
	wantSame(t, ours, theirs)
	if in := s.src.Interfaces(); len(in) != 1 || in[0].Name != "any" || in[0].LinkType != 276 {
		t.Errorf("interfaces %+v", in)
	}
}

func TestAnyKeepsTags(t *testing.T) {
	t.Parallel()
	p := newPair(t, traffic.Options{})
	for name, tags := range tagCases {
		t.Run(name, func(t *testing.T) {
			o := settings{Options: rx()}
			o.Interfaces = []string{"any"}
			s := begin(t, p, o)
			send(t, p, traffic.Load{Size: 300, Count: 5, Tags: tags})
			ours := s.stop()
			wantAll(t, ours, 5, true)
			var c, ad []string
			etype := ""
			for _, tag := range tags {
				if id := fmt.Sprint(tag.TCI & 0xfff); tag.TPID == 0x88a8 {
					ad = append(ad, id)
				} else {
					c = append(c, id)
				}
				if etype == "" {
					etype = fmt.Sprintf("0x%04x", max(tag.TPID, 0x8100))
				}
			}
			if etype == "" {
				etype = "0x0800"
			}
			want := fmt.Sprintf("%s\t%s\t%s\t10.99.0.2\t9\t%d\t", etype, strings.Join(ad, ","), strings.Join(c, ","), 300-14+20)
			if name == "9100" {
				want = "" // tshark has no name for it
			}
			for _, line := range tshark(t, pcapFile(t, 276, ours), "sll.etype", "ieee8021ad.id", "vlan.id", "ip.dst", "udp.dstport", "frame.len", "_ws.malformed") {
				if want != "" && line != want {
					t.Fatalf("tshark shows %q, want %q\n% x", line, want, head(ours[0].Data))
				}
			}
		})
	}
}

// What is sent with a tag is captured with it on the way out too.
func TestTagsOfWhatIsSent(t *testing.T) {
	t.Parallel()
	p := newPair(t, traffic.Options{})
	frame := tcpFrame(netip.MustParseAddrPort("10.99.0.1:1000"), netip.MustParseAddrPort("10.99.0.2:443"))
	tagged := slices.Insert(bytes.Clone(frame), 12, 0x81, 0, 0, 100)
	for name, linkType := range map[string]uint32{"vethtx": 1, "any": 276} {
		c := settings{Options: rx(), from: "tx"}
		c.Interfaces = []string{name}
		s := begin(t, p, c)
		sendFrames(t, p, [][]byte{frame, tagged})
		got := s.stop()
		if linkType == 1 && (len(got) != 2 || !bytes.Equal(got[0].Data, frame) || !bytes.Equal(got[1].Data, tagged)) {
			t.Errorf("%s: %d packets, %x", name, len(got), got)
		}
		lines := tshark(t, pcapFile(t, linkType, got), "vlan.id", "ip.dst", "tcp.dstport", "_ws.malformed")
		if want := []string{"\t10.99.0.2\t443\t", "100\t10.99.0.2\t443\t"}; !slices.Equal(lines, want) {
			t.Errorf("%s: tshark shows %q, want %q", name, lines, want)
		}
	}
}

// loopback sends a few datagrams inside.
func loopback(t *testing.T, p *traffic.Pair) {
	t.Helper()
	if err := p.Do(traffic.RX, func() error {
		l, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer l.Close()
		c, err := net.Dial("udp4", l.LocalAddr().String())
		if err != nil {
			return err
		}
		defer c.Close()
		for range 20 {
			if _, err := c.Write([]byte("over the loopback interface")); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func TestLoopbackIsShownOnce(t *testing.T) {
	t.Parallel()
	p := newPair(t, traffic.Options{})
	c := settings{Options: rx()}
	c.Interfaces = []string{"lo"}
	s := begin(t, p, c)
	stop := tcpdump(t, p, "lo")
	loopback(t, p)
	theirs, ours := stop(), s.stop()
	wantSame(t, ours, theirs)
	if len(ours) != 20 || s.src.Interfaces()[0].LinkType != 1 {
		t.Errorf("%d packets for 20, interfaces %+v", len(ours), s.src.Interfaces())
	}
	if st := s.src.Stats()[0]; st.Received != 20 {
		t.Errorf("stats %+v", st)
	}
}
