package enrich_test

import (
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"capagent/enrich"
	"capagent/enrich/indicator"
	"capagent/internal/pcapio"
)

// analyse takes the indicators out of a capture.
func analyse(t testing.TB, path string) enrich.Result {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	r, err := pcapio.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	a := enrich.New()
	var p pcapio.Packet
	for r.Next(&p) == nil {
		a.Packet(&p)
	}
	return a.Close()
}

// TestEveryLimitIsExplained: a limit that a user may read of has its words.
func TestEveryLimitIsExplained(t *testing.T) {
	declared := regexp.MustCompile(`(?m)Limit\w*\s+(?:indicator\.)?Limit\s+= "(\w+)"`)
	seen := 0
	err := filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range declared.FindAllStringSubmatch(string(text), -1) {
			if seen++; enrich.Explain(indicator.Limit(m[1])) == "" {
				t.Errorf("%s: %s", path, m[1])
			}
		}
		return err
	})
	if err != nil || seen < 30 {
		t.Error(seen, err)
	}
}

func TestWhatIsWorthLookingUp(t *testing.T) {
	var list []indicator.Indicator
	for _, a := range []string{
		"10.1.2.3", "127.0.0.1", "169.254.1.1", "224.0.0.251", "255.255.255.255", "fe80::1", "ff02::1", "fd00::1", "100.64.0.1", "0.0.0.0",
		"8.8.8.8", "2001:4860:4860::8888", "198.51.100.23", "9.9.9.9",
	} {
		list = append(list, indicator.Indicator{Type: indicator.Address, Value: a})
	}
	list = append(list, indicator.Indicator{Type: indicator.Host, Value: "10.1.2.3.example"})
	var got []string
	for _, i := range enrich.Interesting(list, []netip.Prefix{netip.MustParsePrefix("9.9.9.0/24")}) {
		got = append(got, i.Value)
	}
	if want := "8.8.8.8 2001:4860:4860::8888 198.51.100.23 10.1.2.3.example"; strings.Join(got, " ") != want {
		t.Errorf("%v", got)
	}
}

// TestAnAnalysisIsTheSameTwice: nothing hangs on the order of a map.
func TestAnAnalysisIsTheSameTwice(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("..", "examples", "captures", "*.pcap*"))
	if err != nil || len(files) < 5 {
		t.Fatal(files, err)
	}
	for _, path := range files {
		if strings.HasSuffix(path, ".gz") {
			continue
		}
		one, other := analyse(t, path), analyse(t, path)
		if len(one.Indicators) != len(other.Indicators) || one.Summary.Text() != other.Summary.Text() {
			t.Fatal(path)
		}
		for i := range one.Indicators {
			if one.Indicators[i] != other.Indicators[i] {
				t.Errorf("%s: %+v, then %+v", path, one.Indicators[i], other.Indicators[i])
			}
		}
	}
}

// FuzzPackets: frames of any bytes, through everything: no parser fails, and all
// memory is given back.
func FuzzPackets(f *testing.F) {
	for _, name := range []string{"web.pcap", "dns.pcap", "tls12.pcap", "dhcp-arp.pcap", "ipv6-nd.pcap"} {
		file, err := os.Open(filepath.Join("..", "examples", "captures", name))
		if err != nil {
			f.Fatal(err)
		}
		r, err := pcapio.NewReader(file)
		if err != nil {
			f.Fatal(err)
		}
		var p pcapio.Packet
		var seed []byte
		for len(seed) < 4000 && r.Next(&p) == nil {
			seed = append(append(seed, byte(len(p.Data)>>8), byte(len(p.Data))), p.Data...)
		}
		f.Add(seed)
		_ = file.Close()
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a := enrich.New()
		for n := 0; len(b) >= 2; n++ {
			length := min(int(b[0])<<8|int(b[1]), len(b)-2)
			a.Packet(&pcapio.Packet{Time: int64(n) * 1e6, Data: b[2 : 2+length], CapLen: uint32(length), OrigLen: uint32(length), LinkType: 1})
			b = b[2+length:]
		}
		if r := a.Close(); len(r.Failed) > 0 {
			t.Fatal(r.Failed)
		}
		if n := a.Held(); n != 0 {
			t.Fatalf("%d bytes are not given back", n)
		}
	})
}

// TestPacketsCostNoMemory: what is known already is counted without allocating.
func TestPacketsCostNoMemory(t *testing.T) {
	for _, name := range []string{"dns.pcap", "dhcp-arp.pcap", "ipv6-nd.pcap"} {
		f, err := os.Open(filepath.Join("..", "examples", "captures", name))
		if err != nil {
			t.Fatal(err)
		}
		r, err := pcapio.NewReader(f)
		if err != nil {
			t.Fatal(err)
		}
		a := enrich.New()
		var p pcapio.Packet
		var packets []pcapio.Packet
		for r.Next(&p) == nil {
			one := p
			one.Data = append([]byte(nil), p.Data...)
			packets = append(packets, one)
		}
		all := func() {
			for i := range packets {
				a.Packet(&packets[i])
			}
		}
		all()
		if n := testing.AllocsPerRun(50, all); n > 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
		_ = f.Close()
	}
}
