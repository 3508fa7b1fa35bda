package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const committed = "../../../examples/captures"

// tool returns the path of an outside program that a test needs.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	return path
}

func TestTheCommittedCapturesAreWhatTheGeneratorWrites(t *testing.T) {
	dir := t.TempDir()
	if err := run([]string{dir}, os.Stderr); err != nil {
		t.Fatal(err)
	}
	want, got := tree(t, dir), tree(t, committed)
	delete(got, "README.md")
	total := 0
	for name, data := range want {
		if !bytes.Equal(got[name], data) {
			t.Errorf("%s differs from the generated file; run: go run ./internal/tools/gencaptures examples/captures", name)
		}
		delete(got, name)
		total += len(data)
	}
	for name := range got {
		t.Errorf("%s is not generated", name)
	}
	if total > 300<<10 {
		t.Errorf("%d bytes of captures are too many to ship", total)
	}
	if !bytes.Equal(want["web.pcap"], want["branch-office/copy-of-web.pcap"]) {
		t.Error("the duplicate is none")
	}
}

func tree(t *testing.T, root string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err == nil {
			files[filepath.ToSlash(name)], err = os.ReadFile(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// what tshark must see in a file: distinct values of a field in order of their
// first occurrence, one space between them.
type what struct {
	frames int
	fields map[string]string
	cut    bool // tshark and capinfos must complain that the file is cut short
}

const (
	protocol = "_ws.col.Protocol"
	host     = "http.host"
	uri      = "http.request.uri"
	query    = "dns.qry.name"
	sni      = "tls.handshake.extensions_server_name"
	alpn     = "tls.handshake.extensions_alpn_str"
)

var expected = map[string]what{
	"dhcp-arp.pcap": {12, map[string]string{
		protocol: "DHCP ARP ICMP", "dhcp.option.dhcp": "1 2 3 5", "dhcp.option.hostname": "desk-17",
		"dhcp.ip.your": "0.0.0.0 192.0.2.17", "arp.opcode": "1 2",
	}, false},
	"dns.pcap": {10, map[string]string{
		protocol: "DNS", query: "portal.example.com www.example.org wpad.example.com mail.example.org",
		"dns.qry.type": "1 28", "dns.flags.rcode": "0 3", "dns.cname": "edge.example.net",
		"dns.a": "192.0.2.80 203.0.113.80 203.0.113.25", "dns.aaaa": "2001:db8:17::80",
	}, false},
	"web.pcap": {23, map[string]string{
		protocol: "DNS TCP HTTP", host: "portal.example.com", uri: "/ /style.css /favicon.ico",
		"http.response.code": "200 404", "tcp.flags": "0x0002 0x0012 0x0010 0x0018 0x0011",
	}, false},
	"tls12.pcap": {22, map[string]string{
		protocol: "DNS TCP TLSv1 TLSv1.2", sni: "mail.example.org", alpn: "http/1.1", "tls.handshake.type": "1 2,11,12,14 16",
		"x509ce.dNSName": "mail.example.org",
	}, false},
	"tls13.pcap": {22, map[string]string{
		protocol: "DNS TCP TLSv1 TLSv1.3", sni: "portal.example.com", alpn: "h2,http/1.1", "tls.handshake.type": "1 2",
	}, false},
	"download-nano.pcap": {61, map[string]string{
		protocol: "DNS TCP HTTP", host: "files.example.net", uri: "/tools/viewer-setup.bin", query: "files.example.net",
	}, false},
	"incident.pcapng": {36, map[string]string{
		protocol: "DNS TCP TLSv1 TLSv1.3 HTTP ICMPv6 ICMP",
		sni:      "sync.example.net", alpn: "http/1.1",
		// The first request lies inside TLS: the secrets in the file open it.
		host: "sync.example.net files.branch.example.com", uri: "/check /share",
		query:                "sync.example.net backup-sync.example.net",
		"frame.interface_id": "0 1 2", "frame.interface_name": "eth0 wg0 any",
		"frame.encap_type": "1 7 25", "frame.comment": "first connection to 203.0.113.66, three minutes after the download",
	}, false},
	"vlan.pcap": {14, map[string]string{
		protocol: "DNS ICMP TCP HTTP", "vlan.id": "20 30", "ieee8021ad.id": "100", host: "portal.example.com",
	}, false},
	"ipv6-nd.pcap": {17, map[string]string{
		protocol: "ICMPv6 TCP HTTP", "icmpv6.type": "133 134 135 136 128 129", host: "files.example.net",
		"icmpv6.opt.prefix": "2001:db8:17::",
	}, false},
	"yesterday.pcap.gz": {19, map[string]string{
		protocol: "DNS TCP HTTP", host: "www.example.org",
	}, false},
	"empty.pcap":     {},
	"truncated.pcap": {10, map[string]string{protocol: "TCP"}, true},
	"branch-office/beacon.pcap": {60, map[string]string{
		protocol: "DNS TCP HTTP", host: "files.example.net", uri: "/ping?id=branch-12",
	}, false},
	"branch-office/copy-of-web.pcap": {23, map[string]string{protocol: "DNS TCP HTTP"}, false},
}

func TestTsharkReadsEveryCaptureAsIntended(t *testing.T) {
	tool(t, "tshark")
	files := tree(t, committed)
	delete(files, "README.md")
	for name := range files {
		want, ok := expected[name]
		if !ok {
			t.Errorf("%s: nothing is expected of it", name)
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := dissect(t, filepath.Join(committed, name), want)
			if len(d.rows) != want.frames {
				t.Errorf("%d frames, want %d", len(d.rows), want.frames)
			}
			for field, value := range want.fields {
				if got := d.distinct(field); got != value {
					t.Errorf("%s = %q, want %q", field, got, value)
				}
			}
			for _, fault := range d.faults() {
				t.Error(fault)
			}
		})
	}
}

// dissection is tshark's view of a file: one row of fields for each frame.
type dissection struct {
	fields []string
	rows   [][]string
}

// Fields whose values say that something is wrong with a packet, and the addresses.
var (
	checksums = []string{"ip.checksum.status", "tcp.checksum.status", "udp.checksum.status", "icmp.checksum.status", "icmpv6.checksum.status"}
	addresses = []string{"ip.src", "ip.dst", "ipv6.src", "ipv6.dst", "dns.a", "dns.aaaa", "arp.src.proto_ipv4", "arp.dst.proto_ipv4"}
	health    = []string{"frame.protocols", "_ws.expert.severity", "_ws.expert.message", "tcp.analysis.flags", "eth.src", query}
)

func dissect(t *testing.T, path string, want what) dissection {
	t.Helper()
	d := dissection{fields: slices.Concat(checksums, addresses, health)}
	for field := range want.fields {
		if !slices.Contains(d.fields, field) { // tshark fills only one of two columns
			d.fields = append(d.fields, field)
		}
	}
	args := []string{
		"-n", "-r", path, "-T", "fields", "-E", "separator=/t", "-o", "ip.check_checksum:TRUE",
		"-o", "tcp.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE",
	}
	for _, field := range d.fields {
		args = append(args, "-e", field)
	}
	cmd := exec.Command("tshark", args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if cut := strings.Contains(stderr.String(), "cut short in the middle of a packet"); cut != want.cut {
		t.Errorf("cut short = %v, want %v; tshark: %v %s", cut, want.cut, err, &stderr)
	}
	if err != nil && !want.cut {
		t.Fatalf("tshark: %v: %s", err, &stderr)
	}
	for line := range strings.Lines(string(out)) {
		row := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(row) != len(d.fields) {
			t.Fatalf("%d fields, want %d: %q", len(row), len(d.fields), line)
		}
		d.rows = append(d.rows, row)
	}
	return d
}

// column returns the values of a field, "" for frames without it.
func (d dissection) column(field string) []string {
	var values []string
	i := slices.Index(d.fields, field)
	for _, row := range d.rows {
		values = append(values, row[i])
	}
	return values
}

func (d dissection) distinct(field string) string {
	var seen []string
	for _, v := range d.column(field) {
		if v != "" && !slices.Contains(seen, v) {
			seen = append(seen, v)
		}
	}
	return strings.Join(seen, " ")
}

// faults returns everything that a well-made packet does not have.
func (d dissection) faults() []string {
	var faults []string
	add := func(frame int, format string, args ...any) {
		faults = append(faults, fmt.Sprintf("frame %d: ", frame+1)+fmt.Sprintf(format, args...))
	}
	const good = "1"
	for _, field := range checksums {
		for i, status := range d.column(field) {
			if status != "" && status != good {
				add(i, "%s = %s", field, status)
			}
		}
	}
	const warning = 0x600000
	messages := d.column("_ws.expert.message")
	for i, severities := range d.column("_ws.expert.severity") {
		for s := range strings.SplitSeq(severities, ",") {
			if n, err := strconv.Atoi(s); s != "" && (err != nil || n >= warning) {
				add(i, "severity %s: %s", s, messages[i])
			}
		}
	}
	for i, p := range d.column("frame.protocols") {
		if strings.Contains(p, "malformed") {
			add(i, "protocols %s", p)
		}
	}
	for i, a := range d.column("tcp.analysis.flags") {
		if a != "" {
			add(i, "TCP analysis: %s", messages[i])
		}
	}
	for i, names := range d.column(query) {
		if names != "" && !strings.HasSuffix(names, ".example.com") && !strings.HasSuffix(names, ".example.net") && !strings.HasSuffix(names, ".example.org") {
			add(i, "name %s is not for documentation", names)
		}
	}
	for i, m := range d.column("eth.src") {
		if m != "" && !strings.HasPrefix(m, "00:00:5e:00:53:") {
			add(i, "MAC %s is not for documentation", m)
		}
	}
	for _, field := range addresses {
		for i, values := range d.column(field) {
			for a := range strings.SplitSeq(values, ",") {
				if a != "" && !harmless(netip.MustParseAddr(a)) {
					add(i, "%s = %s is not for documentation", field, a)
				}
			}
		}
	}
	return faults
}

// harmless says whether an address is for documentation (RFC 5737, RFC 3849)
// or prescribed by DHCP and Neighbour Discovery.
func harmless(a netip.Addr) bool {
	for _, p := range []string{"192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32"} {
		if netip.MustParsePrefix(p).Contains(a) {
			return true
		}
	}
	return a.IsUnspecified() || a == netip.MustParseAddr("255.255.255.255") || a.Is6() && (a.IsLinkLocalUnicast() || a.IsLinkLocalMulticast())
}

func TestTheOracleSeesADamagedPacket(t *testing.T) {
	tool(t, "tshark")
	data, err := os.ReadFile(filepath.Join(committed, "web.pcap"))
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)-1] ^= 1 // the last packet's urgent pointer
	path := filepath.Join(t.TempDir(), "damaged.pcap")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if faults := dissect(t, path, what{}).faults(); len(faults) == 0 || !strings.Contains(faults[0], "frame 23: tcp.checksum.status = 0") {
		t.Errorf("faults = %q", faults)
	}
}

func TestCapinfosAgrees(t *testing.T) {
	tool(t, "capinfos")
	common := []string{"Strict time order:   True"}
	for name, lines := range map[string][]string{
		"dns.pcap":           {"File timestamp precision:  microseconds (6)", "First packet time:   2026-03-10 08:40:00.123456\n"},
		"download-nano.pcap": {"File timestamp precision:  nanoseconds (9)", "First packet time:   2026-03-10 09:17:00.123456789\n"},
		"yesterday.pcap.gz":  {"pcap (gzip compressed)", "First packet time:   2026-03-09 16:10:00.123456\n"},
		"empty.pcap":         {"Number of packets:   0\n"},
		"truncated.pcap":     {"Number of packets:   10\n", "cut short in the middle of a packet"},
		"incident.pcapng": {
			"Ethernet (20)", "Raw IP (12)", "Linux cooked-mode capture v1 (4)",
			"Time precision = microseconds (6)", "Time precision = nanoseconds (9)", "Time precision = milliseconds (3)",
			"Capture comment:     Case 17: desk-17 after the download of viewer-setup.bin",
			"Number of interfaces in file: 3", "Number of stat entries = 1",
			"Number of resolved IPv4 addresses in file: 1", "Number of resolved IPv6 addresses in file: 1",
			"Number of decryption secrets in file: 1",
		},
	} {
		cmd := exec.Command("capinfos", filepath.Join(committed, name))
		cmd.Env = append(os.Environ(), "TZ=UTC", "LC_ALL=C")
		out, _ := cmd.CombinedOutput() // it exits with 1 for the file that is cut short
		for _, line := range append(lines, common...) {
			if !strings.Contains(string(out), line) {
				t.Errorf("%s: capinfos does not say %q:\n%s", name, line, out)
			}
		}
	}
}

func TestTheReadmeNamesEveryFileAndTheDownload(t *testing.T) {
	tool(t, "tshark")
	files := tree(t, committed)
	readme := string(files["README.md"])
	for name := range expected {
		if !strings.Contains(readme, "`"+name+"`") {
			t.Errorf("README.md does not name %s", name)
		}
	}
	dir := t.TempDir()
	if out, err := exec.Command("tshark", "-q", "-r", filepath.Join(committed, "download-nano.pcap"),
		"--export-objects", "http,"+dir).CombinedOutput(); err != nil {
		t.Fatalf("tshark: %v: %s", err, out)
	}
	exported, err := os.ReadFile(filepath.Join(dir, "viewer-setup.bin"))
	if err != nil {
		t.Fatal(err)
	}
	if sum := fmt.Sprintf("%x", sha256.Sum256(exported)); !strings.Contains(readme, sum) {
		t.Errorf("README.md does not give the download's SHA-256, %s", sum)
	}
}

func TestRecordedSessionsCanBePlayedBack(t *testing.T) {
	dir := t.TempDir()
	if err := run([]string{"-record", dir}, os.Stderr); err != nil {
		t.Fatal(err)
	}
	for name, config := range sessionConfigs() {
		text, err := os.ReadFile(filepath.Join(dir, name+".txt"))
		if err != nil {
			t.Fatal(err)
		}
		s, err := parseSession(string(text))
		if err != nil {
			t.Fatal(err)
		}
		if len(s.flights) < 6 || !bytes.Contains(s.flights[0].data, []byte(config.ServerName)) || len(s.keyLog) == 0 {
			t.Errorf("%s: %d flights, %d bytes of secrets", name, len(s.flights), len(s.keyLog))
		}
	}
}
