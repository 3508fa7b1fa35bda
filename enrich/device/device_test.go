package device_test

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"capagent/enrich/device"
	"capagent/enrich/indicator"
)

func TestHardwareAddressesInEveryForm(t *testing.T) {
	want := device.MAC{0, 0x11, 0x22, 0xaa, 0xbb, 0xcc}
	for _, text := range []string{"00:11:22:aa:bb:cc", "00-11-22-AA-BB-CC", "0011.22aa.bbcc", "001122AABBCC"} {
		if m, ok := device.ParseMAC(text); !ok || m != want {
			t.Errorf("%s: %v %v", text, m, ok)
		}
	}
	for _, text := range []string{"", "00:11:22:aa:bb", "00:11:22:aa:bb:cc:dd", "00:11:22:aa:bb:cg", "00 11 22 aa bb cc", strings.Repeat(":", 18)} {
		if m, ok := device.ParseMAC(text); ok {
			t.Errorf("%s: %v", text, m)
		}
	}
	for text, want := range map[string][2]bool{"00:11:22:aa:bb:cc": {false, false}, "02:00:00:00:00:01": {true, false}, "ff:ff:ff:ff:ff:ff": {false, true}, "01:00:5e:00:00:01": {false, true}, "da:a1:19:00:00:01": {true, false}} {
		if m, _ := device.ParseMAC(text); m.Random() != want[0] || m.Multicast() != want[1] {
			t.Errorf("%s: random %v, multicast %v", text, m.Random(), m.Multicast())
		}
	}
}

func TestNamesFromOutsideAreClean(t *testing.T) {
	for text, want := range map[string]string{
		"reception-ipad": "reception-ipad", "  Bob's\r\n\tiPhone ": "Bob's iPhone", "\x1b[31mred\x00": "[31mred",
		"a\u202eb": "a b", "\xff\xfe": "", "Büro 2": "Büro 2", strings.Repeat("x", 65): strings.Repeat("x", 62) + "…",
	} {
		if got := device.Clean(text); got != want {
			t.Errorf("%q: %q", text, got)
		}
	}
}

func FuzzNamesAreClean(f *testing.F) {
	f.Add("a\u202e b\n")
	f.Fuzz(func(t *testing.T, s string) {
		got := device.Clean(s)
		if utf8.RuneCountInString(got) > device.MaxName || strings.ContainsAny(got, "\r\n\x00\x1b") || !utf8.ValidString(got) || strings.TrimSpace(got) != got {
			t.Errorf("%q", got)
		}
		if again := device.Clean(got); !strings.HasSuffix(got, "…") && again != got {
			t.Errorf("%q and then %q", got, again)
		}
	})
}

var (
	mac  = device.MAC{0, 0x11, 0x22, 0xaa, 0xbb, 0xcc}
	ip   = netip.MustParseAddr("192.0.2.7")
	ipad = device.Device{
		Source: "cloudtrax", Kind: "client", Name: "reception-ipad", Details: []string{"AP Front office", "SSID HQ-Staff"},
		Confidence: device.High, MAC: &mac, IPs: []netip.Addr{ip}, Tags: []string{"HQ, Staff"},
	}
	lab = device.Device{Source: "cloudshare", Kind: "lab machine", Name: "web", Confidence: device.Low, Hosts: []string{"x.vm.cld.sr"}, Limits: []string{"clones share addresses"}}
)

func TestDevicesInWords(t *testing.T) {
	list := []device.Device{lab, ipad}
	if got, want := device.Summary(list, 1000, device.MAC.String), "reception-ipad · AP Front office · SSID HQ-Staff, 00:11:22:aa:bb:cc, 192.0.2.7 (cloudtrax, high)\nweb (cloudshare, low; clones share addresses)\n"; got != want {
		t.Errorf("%s", cmp.Diff(want, got))
	}
	if got := device.Summary(list, 130, device.MAC.String); !strings.HasSuffix(got, "and 1 more\n") || len(got) > 130 {
		t.Errorf("%q", got)
	}
	if got := device.Summary(slices.Repeat(list, 1000), 5, device.MAC.String); got != "" {
		t.Errorf("%q", got)
	}
	if diff := cmp.Diff([]string{"reception-ipad", "HQ  Staff"}, device.Tags(list, 30)); diff != "" {
		t.Error(diff)
	}
	if got := device.Tags(list, 1); len(got) != 1 {
		t.Error(got)
	}
}

func TestWhoAnIndicatorBelongsTo(t *testing.T) {
	list := []device.Device{lab, ipad}
	for _, tc := range []struct {
		t    indicator.Type
		v    string
		want string
	}{{indicator.Address, "192.0.2.7", "reception-ipad"}, {indicator.Host, "x.vm.cld.sr", "web"}, {indicator.URL, "192.0.2.7", ""}, {indicator.Address, "192.0.2.8", ""}} {
		got := ""
		for _, d := range device.Of(list, indicator.Indicator{Type: tc.t, Value: tc.v}) {
			got += d.Name
		}
		if got != tc.want {
			t.Errorf("%v %s: %q", tc.t, tc.v, got)
		}
	}
}

func TestDevicesAreReadBack(t *testing.T) {
	data, err := json.Marshal([]device.Device{lab, ipad})
	if err != nil {
		t.Fatal(err)
	}
	got, err := device.Decode(data)
	if diff := cmp.Diff([]device.Device{lab, ipad}, got, cmpopts.EquateComparable(netip.Addr{})); err != nil || diff != "" {
		t.Error(err, diff)
	}
	for _, bad := range []string{"{", `[{"confidence":"sure"}]`, `[{"mac":"x"}]`} {
		if _, err := device.Decode([]byte(bad)); err == nil {
			t.Errorf("%s is read", bad)
		}
	}
	if list, err := device.Decode(nil); err != nil || list != nil {
		t.Error(list, err)
	}
}
