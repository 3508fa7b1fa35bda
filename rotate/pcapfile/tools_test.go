package pcapfile_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"capagent/internal/packet"
	"capagent/internal/pcapio"
	"capagent/rotate/pcapfile"
)

func TestOtherToolsReadTheSamePackets(t *testing.T) {
	for _, format := range []pcapio.Format{pcapio.Pcap, pcapio.Pcapng} {
		w := newWriter(t, small)
		dir := t.TempDir()
		path := filepath.Join(dir, "f")
		h := header(format, ether, ether, ether)
		begin(t, w, path, h)
		r := rand.New(rand.NewPCG(1, 2))
		var want strings.Builder
		batch := make([]packet.Packet, 3000)
		for i := range batch {
			p := packet.Packet{Time: r.Int64N(0xffffffff * 1e9), Data: make([]byte, r.IntN(3000)), Interface: r.Uint32N(3)}
			p.Length = uint32(len(p.Data)) + r.Uint32N(3)
			batch[i] = p
			if format == pcapio.Pcap {
				p.Interface = 0
			}
			fmt.Fprintf(&want, "%d.%09d\t%d\t%d\t%d\n", p.Time/1e9, p.Time%1e9, len(p.Data), p.Length, p.Interface)
		}
		if err := w.Write(batch); err != nil {
			t.Fatal(err)
		}
		if _, err := w.End(pcapfile.Trailer{Stats: make([]pcapfile.Stats, 3)}).Wait(); err != nil {
			t.Fatal(err)
		}
		fields := []string{"-n", "-T", "fields", "-e", "frame.time_epoch", "-e", "frame.cap_len", "-e", "frame.len", "-e", "frame.interface_id", "-r"}
		run(t, "editcap", path, path+".copy")
		for _, path := range []string{path, path + ".copy"} {
			got := run(t, "tshark", append(fields, path)...)
			if format == pcapio.Pcap {
				got = strings.ReplaceAll(got, "\t\n", "\t0\n")
			}
			if got != want.String() {
				t.Errorf("%s: tshark reads something else", path)
			}
		}
		has(t, run(t, "capinfos", path), "Number of packets:   3000")
	}
}

func TestWiresharkReadsAllOfIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	w := newWriter(t, pcapfile.Options{})
	begin(t, w, path, pcapfile.Header{
		Format: pcapio.Pcapng, Section: pcapio.Section{Comment: "case 7", Hardware: "a sensor", OS: "an OS", Application: "capagent 1.2"},
		Interfaces: []packet.Interface{{
			Name: "eth0", Description: "uplink", LinkType: ether, SnapLen: 96, Filter: "udp port 9",
			MAC: []byte{2, 0, 0, 0, 0, 1}, Speed: 10_000_000_000,
		}},
	})
	at := time.Date(2026, 11, 22, 1, 2, 3, 4, time.UTC)
	p := packet.Packet{Time: at.UnixNano(), Data: make([]byte, 61), Length: 1514}
	later := packet.Packet{Time: at.UnixNano() + 1, Data: make([]byte, 20), Length: 20, Interface: 1}
	later.Data[0] = 0x45
	for _, err := range []error{
		w.KeyLog([]byte("CLIENT_RANDOM 00 11\n")),
		w.Write([]packet.Packet{p}),
		w.AddInterface(packet.Interface{Name: "tun0", LinkType: raw}),
		w.Write([]packet.Packet{later, p}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := w.End(pcapfile.Trailer{Start: at, End: at.Add(time.Minute), Stats: []pcapfile.Stats{
		{Stats: packet.Stats{Received: 10, Dropped: 3}, Comment: "a gap of 3 s"}, {},
	}}).Wait()
	if err != nil {
		t.Fatal(err)
	}
	out := run(t, "tshark", "-n", "-r", path, "-T", "fields", "-e", "frame.time_epoch", "-e", "frame.cap_len", "-e", "frame.len", "-e", "frame.interface_name")
	const want = "1795309323.000000004\t61\t1514\teth0\n1795309323.000000005\t20\t20\ttun0\n1795309323.000000004\t61\t1514\teth0\n"
	if out != want {
		t.Errorf("tshark says\n%swant\n%s", out, want)
	}
	has(t, run(t, "capinfos", path), "case 7", "a sensor", "an OS", "capagent 1.2", "Name = eth0", "Description = uplink",
		"Filter string = udp port 9", "Capture length = 96", "Speed = 10000000000", "Time precision = nanoseconds (9)", "Operating system = an OS",
		"Number of stat entries = 1", "Name = tun0", "Number of decryption secrets in file: 1", "Number of packets:   3")
	has(t, run(t, "tshark", "-r", path, "-X", "read_format:MIME Files Format", "-V"), "Interface Statistics Block", "a gap of 3 s",
		"Start Time", "End Time", "Nov 22, 2026 01:03:03.000000004 UTC", "Number of Received Packets = 13",
		"Number of Dropped Packets = 3", "Number of Packets Dropped by OS = 3", "MAC Address = 02:00:00:00:00:01")
	run(t, "editcap", path, path+".copy")
	if err := os.Remove(path + ".copy"); err != nil {
		t.Error(err)
	}
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skip(err)
	}
	cmd := exec.Command(name, args...)
	var warnings bytes.Buffer
	cmd.Stderr = &warnings
	out, err := cmd.Output()
	said := strings.ReplaceAll(warnings.String(), "Running as user \"root\" and group \"root\". This could be dangerous.\n", "")
	if err != nil || said != "" {
		t.Errorf("%s: %v: %s", cmd, err, said)
	}
	return string(out)
}

func has(t *testing.T, text string, want ...string) {
	t.Helper()
	for _, s := range want {
		if !strings.Contains(text, s) {
			t.Errorf("%q is not in\n%s", s, text)
		}
	}
}
