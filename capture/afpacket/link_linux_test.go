package afpacket_test

import (
	"encoding/hex"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"capagent/capture/afpacket"
)

func TestLinkTypes(t *testing.T) {
	t.Parallel()
	for hatype, want := range map[uint16]int{
		unix.ARPHRD_ETHER: 1, unix.ARPHRD_LOOPBACK: 1,
		unix.ARPHRD_NONE: 101, unix.ARPHRD_RAWIP: 101, unix.ARPHRD_TUNNEL: 101, unix.ARPHRD_TUNNEL6: 101, unix.ARPHRD_SIT: 101, unix.ARPHRD_SLIP: 101,
		unix.ARPHRD_IEEE80211: 105, unix.ARPHRD_IEEE80211_PRISM: 119, unix.ARPHRD_IEEE80211_RADIOTAP: 127,
		unix.ARPHRD_PPP: 276, unix.ARPHRD_IPGRE: 276, unix.ARPHRD_CAN: 276, unix.ARPHRD_INFINIBAND: 276, unix.ARPHRD_NETLINK: 276, 12345: 276,
	} {
		if got := afpacket.LinkTypeOf(hatype); got != want {
			t.Errorf("hardware type %d: link type %d, want %d", hatype, got, want)
		}
	}
}

func TestWhereTagsAreAhead(t *testing.T) {
	t.Parallel()
	ip4 := "45000800 00000000 40110000 0a630001 0a630002"       // of 2048 bytes, which is also its type
	ip4sum := "45000800 00000000 40115e25 0a630001 0a630002"    // as it would be
	ip6 := "600086dd 00081140" + strings.Repeat("00000001", 10) // of flow 0x086dd
	for name, tc := range map[string]struct {
		data     string
		length   uint32
		protocol uint16
		want     bool
	}{
		"one tag":             {"0064 0800" + ip4, 2052, 0x800, true},
		"two tags":            {"0064 8100 0065 0800" + ip4, 2056, 0x800, true},
		"priority 2":          {"4064 0800" + ip4, 2052, 0x800, true},
		"plain":               {ip4sum, 2048, 0x800, false},
		"plain, short":        {"45000800 00000000", 2048, 0x800, false},
		"IPv6":                {"0064 86dd" + ip6, 52, 0x86dd, true},
		"IPv6, priority 3":    {"6064 86dd" + ip6, 52, 0x86dd, true},
		"plain IPv6":          {ip6, 48, 0x86dd, false},
		"plain IPv6, cut":     {"600086dd 00081140 00000001", 48, 0x86dd, false},
		"ARP":                 {"0001 0800 0604 0001", 28, 0x806, false},
		"ARP behind a tag":    {"0064 0806 0001 0800 0604 0001", 32, 0x806, true},
		"nothing":             {"", 0, 0x800, false},
		"cut in the tag":      {"0064 08", 100, 0x800, false},
		"tags without an end": {strings.Repeat("0001 8100", 100), 400, 0x800, false},
	} {
		b, err := hex.DecodeString(strings.ReplaceAll(tc.data, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		if got := afpacket.TagsAhead(b, tc.length, tc.protocol); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}
