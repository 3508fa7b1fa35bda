package tls_test

import (
	"crypto/sha256"
	gotls "crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"capagent/enrich/indicator"
	"capagent/internal/pcapio"
)

// capture writes pieces as segments of one TCP connection, each in a frame.
func capture(t *testing.T, path string, pieces []piece) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w, err := pcapio.NewPcapWriter(f, pcapio.PcapOptions{LinkType: 101})
	if err != nil {
		t.Fatal(err)
	}
	next := [2]uint32{1000, 5000}
	for i, p := range pieces {
		addresses := [2][]byte{{192, 0, 2, 1, 192, 0, 2, 2}, {192, 0, 2, 2, 192, 0, 2, 1}}[p.from]
		ports := [2][]byte{{0xc3, 0x50, 1, 0xbb}, {1, 0xbb, 0xc3, 0x50}}[p.from]
		b := []byte{0x45, 0, 0, 0, 0, 0, 0, 0, 64, 6, 0, 0}
		binary.BigEndian.PutUint16(b[2:], uint16(40+len(p.b)))
		b = append(append(b, addresses...), ports...)
		b = binary.BigEndian.AppendUint32(b, next[p.from])
		b = binary.BigEndian.AppendUint32(b, next[p.from.Other()])
		b = append(b, 0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0)
		next[p.from] += uint32(len(p.b))
		if err := w.WritePacket(int64(i+1)*1e6, append(b, p.b...), 0); err != nil {
			t.Fatal(err)
		}
	}
}

// wireshark returns what tshark finds, as frame, type and value.
func wireshark(t *testing.T, path string) []string {
	t.Helper()
	tshark, err := exec.LookPath("tshark")
	if err != nil {
		t.Skip("tshark is not installed")
	}
	cmd := exec.Command(tshark, "-n", "-r", path, "-Y", "tls.handshake", "-T", "fields", "-e", "frame.number",
		"-e", "tls.handshake.extensions_server_name", "-e", "tls.handshake.ja3", "-e", "tls.handshake.certificate")
	cmd.Env = append(os.Environ(), "WIRESHARK_CONFIG_DIR="+t.TempDir())
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for line := range strings.Lines(string(out)) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		for i, kind := range []string{"host", "ja3", "certificate"} {
			for value := range strings.SplitSeq(fields[i+1], ",") {
				if kind == "certificate" && value != "" {
					der, err := hex.DecodeString(strings.ReplaceAll(value, ":", ""))
					if err != nil {
						t.Fatal(err)
					}
					value = fmt.Sprintf("%x", sha256.Sum256(der))
				}
				if value != "" {
					list = append(list, fields[0]+" "+kind+" "+value)
				}
			}
		}
	}
	return list
}

func TestWiresharkFindsTheSame(t *testing.T) {
	server, client := newCertificate(t, "www.example.com"), newCertificate(t, "someone")
	server.Certificate = append(server.Certificate, newCertificate(t, "another").Certificate...)
	for _, version := range []uint16{gotls.VersionTLS12, gotls.VersionTLS13} {
		c, s := config(version, server, client)
		pieces := talk(t, c, s)
		for _, size := range []int{100, 1460} {
			segments := cut(pieces, size)
			path := filepath.Join(t.TempDir(), "tls.pcap")
			capture(t, path, segments)
			want := wireshark(t, path)
			set, _ := feed(t, segments)
			var got []string
			for _, i := range set.List() {
				if i.Type != indicator.JA4 && (i.Type != indicator.Certificate || len(i.Value) == 64) {
					got = append(got, fmt.Sprintf("%d %s %s", i.First.Frame, i.Type, i.Value))
				}
			}
			slices.Sort(want)
			slices.Sort(got)
			if diff := cmp.Diff(want, got); diff != "" || len(got) < 2 {
				t.Errorf("version %x, segments of %d: %s", version, size, diff)
			}
		}
	}
}
