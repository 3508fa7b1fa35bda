package verdict_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"capagent/enrich"
	"capagent/enrich/indicator"
	"capagent/enrich/verdict"
	"capagent/internal/pcapio"
)

// analysed returns the indicators of a capture.
func analysed(t testing.TB, path string) []indicator.Indicator {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasSuffix(path, ".gz") {
		z, err := gzip.NewReader(bytes.NewReader(data))
		if err == nil {
			data, err = io.ReadAll(z)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	r, err := pcapio.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	a := enrich.New()
	var p pcapio.Packet
	for {
		if err := r.Next(&p); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || err != nil {
			break
		}
		a.Packet(&p)
	}
	return a.Close().Indicators
}

func tshark(t testing.TB) {
	t.Helper()
	if _, err := exec.LookPath("tshark"); err != nil {
		t.Skip("needs tshark")
	}
}

// selects returns the frames that a filter selects.
func selects(t testing.TB, path, filter string) (frames []int64) {
	t.Helper()
	out, err := exec.Command("tshark", "-r", path, "-Y", filter, "-T", "fields", "-e", "frame.number").Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) && !bytes.Contains(exit.Stderr, []byte("cut short")) {
		t.Errorf("%.1000s: %s", filter, exit.Stderr)
	}
	for line := range strings.Lines(string(out)) {
		var frame int64
		fmt.Sscan(line, &frame)
		frames = append(frames, frame)
	}
	return frames
}

// byFields is the filter without the number of the first frame, where it has
// anything else: fields alone must select it.
func byFields(i indicator.Indicator) string {
	filter := verdict.DisplayFilter(i)
	if i.First.Frame = 0; verdict.DisplayFilter(i) != "" {
		return verdict.DisplayFilter(i)
	}
	return filter
}

func TestFiltersSelectTheFirstFrame(t *testing.T) {
	tshark(t)
	files, err := filepath.Glob("../../examples/captures/*")
	more, _ := filepath.Glob("../../examples/captures/*/*")
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	seen, byFrame := map[indicator.Type]int{}, map[indicator.Type]int{}
	for _, path := range append(files, more...) {
		if !strings.Contains(filepath.Base(path), ".pcap") {
			continue
		}
		list := slices.DeleteFunc(analysed(t, path), func(i indicator.Indicator) bool { return i.Type == indicator.JA4 })
		// One run asks for all: of each first frame whether all filters select it.
		filters, all := map[int64]string{}, []string{}
		for _, i := range list {
			filters[i.First.Frame] += " and (" + byFields(i) + ")"
			seen[i.Type]++
			if strings.Contains(byFields(i), "frame.number") {
				byFrame[i.Type]++
			}
		}
		for frame, filter := range filters {
			all = append(all, fmt.Sprintf("(frame.number == %d%s)", frame, filter))
		}
		if len(all) == 0 || len(selects(t, path, strings.Join(all, " or "))) == len(all) {
			continue
		}
		for _, i := range list {
			filter := byFields(i)
			if got := selects(t, path, filter); !slices.Contains(got, i.First.Frame) {
				t.Errorf("%s: the filter of %v %q (%v) selects %v without frame %d: %s", filepath.Base(path), i.Type, i.Value, i.Role.Names(), got, i.First.Frame, filter)
			}
		}
	}
	t.Logf("indicators %v, by number of frame %v", seen, byFrame)
	for _, typ := range []indicator.Type{indicator.Address, indicator.Host, indicator.URL, indicator.UserAgent, indicator.JA3} {
		if seen[typ] == 0 || byFrame[typ]*2 > seen[typ] {
			t.Errorf("%v: %d seen, %d of them by their frames only", typ, seen[typ], byFrame[typ])
		}
	}
}

var hostile = []string{
	`a"b`, `a\b`, `\`, `"`, `" or frame`, `\" or frame.number > 0 or "`, "a' b", "a`b", "${x}", "$x", "a\nb", "\x01", "ü", "\xff", "a%b", "{}", "a) or (", "^.*$", "x" + strings.Repeat("y", 8000),
}

func TestHostileValuesMakeFiltersThatSelectNothingElse(t *testing.T) {
	tshark(t)
	const file = "../../examples/captures/web.pcap"
	for typ := indicator.Host; typ <= indicator.LocalHost; typ++ {
		if typ == indicator.JA4 { // not known to this version
			continue
		}
		var all []string
		for _, value := range hostile {
			i := indicator.Indicator{Type: typ, Value: value, Role: 1<<23 - 1, First: indicator.At{Frame: 999_999}}
			all = append(all, "("+verdict.DisplayFilter(i)+")")
		}
		for _, filter := range []string{strings.Join(all, " or "), all[len(all)-1]} {
			if got := selects(t, file, filter); len(got) > 0 {
				t.Errorf("%v: frames %v are selected by %.3000s", typ, got, filter)
			}
		}
	}
}

func TestFiltersOfEachType(t *testing.T) {
	for _, tc := range []struct {
		typ         indicator.Type
		value       string
		role        indicator.Role
		want, never string
	}{
		{indicator.Address, "192.0.2.1", indicator.Source, "ip.addr == 192.0.2.1", "or"},
		{indicator.Address, "2001:db8::1", indicator.Destination, "ipv6.addr == 2001:db8::1", "or"},
		{indicator.Address, "192.0.2.1", indicator.DNSAnswer, "dns.a == 192.0.2.1", "ip.addr"},
		{indicator.Address, "192.0.2.1", indicator.HTTPHost | indicator.Destination, `lower(http.host) == "192.0.2.1"`, "arp"},
		{indicator.Host, "x.example", indicator.DNSQuestion, `lower(dns.qry.name) == "x.example" or lower(dns.resp.name) == "x.example"`, "http"},
		{indicator.Host, "x.example", indicator.TLSClient, `lower(tls.handshake.extensions_server_name) == "x.example"`, "dns"},
		{indicator.Host, "x.example", indicator.HTTPHost, `http.host matches "(?i)^x[.]example(:[0-9]+)?$"`, "dns"},
		{indicator.URL, "http://x.example/a", indicator.HTTPRequest, `http.request.full_uri == "http://x.example/a"`, "arp"},
		{indicator.URL, "http://x.example/a%20b", indicator.HTTPRequest, ` or frame.number == 7`, "dns"},
		{indicator.UserAgent, `a "b"`, indicator.HTTPRequest, `http.user_agent == "a \"b\""`, "arp"},
		{indicator.JA3, "0123", indicator.TLSClient, `tls.handshake.ja3 == "0123"`, "arp"},
		{indicator.JA4, "t13d", indicator.TLSClient, `tls.handshake.ja4 == "t13d"`, "arp"},
		{indicator.File, "0123", indicator.HTTPResponse, "frame.number == 7", "or"},
		{indicator.Certificate, "0123", indicator.TLSServer, "frame.number == 7", "or"},
		{indicator.Email, "A@x.example", indicator.MailFrom, `lower(smtp.req.parameter) contains "a@x.example"`, "dns"},
		{indicator.Host, "x.example", 0, "frame.number == 7", "or"},
	} {
		got := verdict.DisplayFilter(indicator.Indicator{Type: tc.typ, Value: tc.value, Role: tc.role, First: indicator.At{Frame: 7}})
		if !strings.Contains(got, tc.want) || strings.Contains(got, tc.never) && tc.never != "or" || tc.never == "or" && strings.Contains(got, " or ") {
			t.Errorf("%v %s: %s", tc.typ, tc.value, got)
		}
	}
}

func TestLinksCarryTheFilterWhole(t *testing.T) {
	for _, filter := range append(hostile, `ip.addr == 192.0.2.1 or a&b=c#d+e`) {
		link := verdict.Link("https://cloudshark.example/captures/0123456789ab", filter)
		u, err := url.Parse(link)
		if err != nil || u.Query().Get("filter") != filter || u.Path != "/captures/0123456789ab" || strings.ContainsAny(link, " +\"'<>") {
			t.Errorf("%.60q: %v: %.100s", filter, err, link)
		}
	}
}
