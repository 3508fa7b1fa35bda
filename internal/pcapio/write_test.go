package pcapio_test

import (
	"bytes"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"capagent/internal/pcapio"

	"pgregory.net/rapid"
)

func TestWhatIsWrittenIsReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var file bytes.Buffer
		var want []pcapio.Packet
		data := rapid.SliceOfN(rapid.Byte(), 0, 100)
		ng, micro := rapid.Bool().Draw(t, "pcapng"), rapid.Bool().Draw(t, "micro")
		linkTypes := rapid.SliceOfN(rapid.IntRange(0, math.MaxUint16), 1, 4).Draw(t, "link types")
		var write func(iface int, ns int64, data []byte, origLen uint32) error
		most := int64(math.MaxInt64)
		if ng {
			micro = false
			w, err := pcapio.NewPcapngWriter(&file, pcapio.Section{OS: rapid.String().Draw(t, "os")})
			if err != nil {
				t.Fatal(err)
			}
			for i, link := range linkTypes {
				id, err := w.AddInterface(pcapio.Interface{Name: rapid.String().Draw(t, "name"), LinkType: link})
				if id != i || err != nil {
					t.Fatal(id, err)
				}
			}
			write = func(iface int, ns int64, data []byte, origLen uint32) error {
				return w.WritePacket(iface, ns, data, origLen, rapid.String().Draw(t, "comment"))
			}
		} else {
			linkTypes = linkTypes[:1]
			most = math.MaxUint32*1e9 + 999_999_999
			w, err := pcapio.NewPcapWriter(&file, pcapio.PcapOptions{LinkType: linkTypes[0], Micro: micro})
			if err != nil {
				t.Fatal(err)
			}
			write = func(_ int, ns int64, data []byte, origLen uint32) error { return w.WritePacket(ns, data, origLen) }
		}
		for range rapid.IntRange(0, 30).Draw(t, "packets") {
			iface := rapid.IntRange(0, len(linkTypes)-1).Draw(t, "interface")
			p := pcapio.Packet{
				Time: rapid.Int64Range(0, most).Draw(t, "time"), Data: data.Draw(t, "data"), Interface: iface, LinkType: linkTypes[iface],
			}
			p.CapLen = uint32(len(p.Data))
			p.OrigLen = rapid.Uint32Range(p.CapLen, math.MaxUint32).Draw(t, "length")
			if err := write(iface, p.Time, p.Data, p.OrigLen); err != nil {
				t.Fatal(err)
			}
			if micro {
				p.Time -= p.Time % 1000
			}
			want = append(want, p)
		}
		got, end := readAll(file.Bytes())
		if end != io.EOF { //nolint:errorlint // Next promises io.EOF itself
			t.Fatal(end)
		}
		if wrong := differ(want, got); wrong != "" {
			t.Fatal(wrong)
		}
	})
}

func TestWritersRefuseWhatTheFormatsCannotHold(t *testing.T) {
	w, _ := pcapio.NewPcapWriter(io.Discard, pcapio.PcapOptions{LinkType: 1})
	ng, _ := pcapio.NewPcapngWriter(io.Discard, pcapio.Section{})
	if err := ng.WritePacket(0, 0, nil, 0, ""); err == nil {
		t.Error("a packet of an interface that was not described was written")
	}
	_, _ = ng.AddInterface(pcapio.Interface{LinkType: 1})
	_, err := pcapio.NewPcapWriter(io.Discard, pcapio.PcapOptions{LinkType: 1 << 16})
	tests := map[string]error{
		"a link type over 16 bits":                 err,
		"a pcap time before 1970":                  w.WritePacket(-1, nil, 0),
		"a pcap time after 2106":                   w.WritePacket((math.MaxUint32+1)*1e9, nil, 0),
		"a pcap packet over 256 KiB":               w.WritePacket(0, make([]byte, 256<<10+1), 0),
		"a pcapng time before 1970":                ng.WritePacket(0, -1, nil, 0, ""),
		"a pcapng packet over 256 KiB":             ng.WritePacket(0, 0, make([]byte, 256<<10+1), 0, ""),
		"a pcapng comment over 64 KiB":             ng.WritePacket(0, 0, nil, 0, strings.Repeat("c", 1<<16)),
		"statistics of an unknown interface":       ng.WriteStats(1, pcapio.Stats{}),
		"a packet of an interface below the first": ng.WritePacket(-1, 0, nil, 0, ""),
	}
	for name, err := range tests {
		if err == nil {
			t.Errorf("%s was written", name)
		}
	}
}

func TestWritersAllocateNothingPerPacket(t *testing.T) {
	w, _ := pcapio.NewPcapWriter(io.Discard, pcapio.PcapOptions{LinkType: 1})
	ng, _ := pcapio.NewPcapngWriter(io.Discard, pcapio.Section{})
	_, _ = ng.AddInterface(pcapio.Interface{LinkType: 1})
	data := frame(1000)
	n := testing.AllocsPerRun(100, func() {
		_ = w.WritePacket(t0us, data, 0)
		_ = ng.WritePacket(0, t0us, data, 0, "")
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestWiresharkReadsWhatIsWritten(t *testing.T) {
	tshark := tool(t, "tshark")
	var file bytes.Buffer
	w, err := pcapio.NewPcapngWriter(&file, pcapio.Section{Comment: "why it was taken", Hardware: "a sensor", OS: "an OS", Application: "capagent"})
	if err != nil {
		t.Fatal(err)
	}
	_, err1 := w.AddInterface(pcapio.Interface{Name: "eth0", Description: "uplink", Filter: "udp port 9", OS: "its OS", LinkType: 1, SnapLen: 96})
	_, err2 := w.AddInterface(pcapio.Interface{Name: "tun0", LinkType: 101})
	for _, err := range []error{
		err1, err2,
		w.WriteSecrets(pcapio.TLSKeyLog, []byte("CLIENT_RANDOM "+strings.Repeat("00", 32)+" "+strings.Repeat("11", 48)+"\n")),
		w.WritePacket(0, 1700000000123456789, frame(40), 1500, "the first"),
		w.WritePacket(1, 1700000001000000001, frame(3)[14:], 0, ""),
		w.WriteStats(0, pcapio.Stats{Time: 1700000002e9, Received: 10, Dropped: 3, OSDrop: 2, Accepted: 5}),
		w.WriteSection(pcapio.Section{Comment: "another"}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), "written")
	if err := os.WriteFile(path, file.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(tshark, "-n", "-r", path, "-T", "fields", "-e", "frame.time_epoch", "-e", "frame.cap_len", "-e", "frame.len",
		"-e", "frame.interface_name", "-e", "frame.comment", "-e", "udp.dstport").Output()
	const want = "1700000000.123456789\t82\t1500\teth0\tthe first\t9\n1700000001.000000001\t31\t31\ttun0\t\t9\n"
	if err != nil || string(out) != want {
		t.Errorf("%v\n%swant\n%s", err, out, want)
	}
	out, err = exec.Command(tool(t, "capinfos"), path).CombinedOutput()
	if err != nil {
		t.Error(err)
	}
	for _, want := range []string{
		"why it was taken", "a sensor", "an OS", "capagent", "Name = eth0", "Description = uplink", "Filter string = udp port 9",
		"Operating system = its OS", "Capture length = 96", "Time precision = nanoseconds (9)", "Number of stat entries = 1", "Name = tun0",
		"Number of decryption secrets in file: 1",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("capinfos does not say %q:\n%s", want, out)
		}
	}
	var pcap bytes.Buffer
	pw, _ := pcapio.NewPcapWriter(&pcap, pcapio.PcapOptions{LinkType: 1})
	_ = pw.WritePacket(1700000000123456789, frame(1), 99)
	_ = os.WriteFile(path, pcap.Bytes(), 0o644)
	if v := capinfos(t, []string{path})[path]; v.packets != "1" || v.first != "1700000000.123456789" || !v.clean {
		t.Errorf("%+v", v)
	}
}
