package cloudtrax

import (
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"capagent/enrich/cloudtraxtest"
	"capagent/enrich/device"
)

// TestWhoIsWho goes through the joins of contract 2.4. Every capture is of the minute
// before 2000-01-01 00:00 UTC, which is when a bubble's time begins.
func TestWhoIsWho(t *testing.T) {
	random, other := device.MAC{0xda, 0xa1, 0x19, 0, 0, 1}, device.MAC{0xda, 0xa1, 0x19, 0, 0, 2}
	add := func(change func(*cloudtraxtest.Client)) func(*cloudtraxtest.Server) {
		return func(s *cloudtraxtest.Server) {
			c := cloudtraxtest.Client{Network: 12345, MAC: ipad, Name: "reception-ipad", AP: front, SSID: 1}
			change(&c)
			s.AddClient(c)
		}
	}
	for _, test := range []struct {
		name  string
		setup func(*cloudtraxtest.Server)
		of    func(*device.Capture)
		seen  []device.MAC
		want  []string
	}{
		{
			name: "a client on the air", seen: []device.MAC{ipad},
			want: []string{"reception-ipad · AP Front office · SSID HQ-Staff · iOS 17.1 (client; high)"},
		},
		{
			name: "a client on a cable", seen: []device.MAC{pc},
			want: []string{"front-desk-pc · switch john port 7 VLAN 10 · Windows (client; high)"},
		},
		{
			name: "several", seen: []device.MAC{nobody, scanner, front, ipad},
			want: []string{
				"reception-ipad · AP Front office · SSID HQ-Staff · iOS 17.1 (client; high)",
				"warehouse-scanner · AP Warehouse · SSID HQ-Staff · Android (client; high)",
				"AP Front office (gateway; high)",
			},
		},
		{name: "a switch", seen: []device.MAC{desk7}, want: []string{"switch john (switch; high)"}},
		{name: "nobody", seen: []device.MAC{nobody, {255, 255, 255, 255, 255, 255}, {}}},
		{
			name: "a name that a person gave", seen: []device.MAC{ipad}, setup: add(func(c *cloudtraxtest.Client) { c.Override = "Bob's\x1b iPad" }),
			want: []string{"Bob's iPad · AP Front office · SSID HQ-Staff (client; high)"},
		},
		{
			name: "no name", seen: []device.MAC{ipad}, setup: add(func(c *cloudtraxtest.Client) { c.Name = "" }),
			want: []string{"00:00:5e:00:53:01 · AP Front office · SSID HQ-Staff (client; high)"},
		},
		{
			name: "a name from DHCP", seen: []device.MAC{ipad}, setup: add(func(c *cloudtraxtest.Client) { c.Name = "" }),
			of:   func(c *device.Capture) { c.Bindings = append(c.Bindings, bind(ipad, "192.0.2.1", "Bobs-iPad")) },
			want: []string{"Bobs-iPad · AP Front office · SSID HQ-Staff (client; high; the name is what it calls itself)"},
		},
		{
			name: "blocked", seen: []device.MAC{ipad}, setup: add(func(c *cloudtraxtest.Client) { c.Blocked = true }),
			want: []string{"reception-ipad · AP Front office · SSID HQ-Staff · blocked (client; high)"},
		},
		{
			name: "an SSID without a name", seen: []device.MAC{ipad}, setup: add(func(c *cloudtraxtest.Client) { c.SSID = 4 }),
			want: []string{"reception-ipad · AP Front office · SSID number 4 (client; high)"},
		},
		{
			name: "seen shortly before", seen: []device.MAC{ipad}, setup: add(func(c *cloudtraxtest.Client) { c.LastSeen = time.Now().Add(-15 * time.Minute) }),
			want: []string{"reception-ipad · AP Front office · SSID HQ-Staff (client; high; at this AP at 1999-12-31 23:45 UTC; it may have roamed)"},
		},
		{
			name: "seen long before", seen: []device.MAC{ipad}, setup: add(func(c *cloudtraxtest.Client) { c.LastSeen = time.Now().Add(-17 * time.Minute) }),
			want: []string{"reception-ipad · AP Front office · SSID HQ-Staff · last seen 1999-12-31 23:43 UTC (client; low)"},
		},
		{
			name: "seen long after", seen: []device.MAC{ipad}, of: func(c *device.Capture) {
				c.First, c.Last = c.First.Add(-30*time.Minute), c.Last.Add(-30*time.Minute)
			},
			want: []string{"reception-ipad · AP Front office · SSID HQ-Staff · iOS 17.1 · last seen 2000-01-01 00:00 UTC (client; low)"},
		},
		{
			name: "a long capture", seen: []device.MAC{ipad}, of: func(c *device.Capture) { c.First = c.First.Add(-30 * time.Minute) },
			want: []string{"reception-ipad · AP Front office · SSID HQ-Staff · iOS 17.1 (client; high; at this AP at 2000-01-01 00:00 UTC; it may have roamed)"},
		},
		{
			name: "never seen", seen: []device.MAC{ipad}, setup: add(func(c *cloudtraxtest.Client) { c.Never = true }),
			want: []string{"reception-ipad · AP Front office · SSID HQ-Staff (client; low; when it was seen last is not known)"},
		},
		{
			name: "an old capture", seen: []device.MAC{ipad, front, desk7},
			of: func(c *device.Capture) {
				c.First, c.Last = c.First.Add(-121*time.Minute), c.Last.Add(-121*time.Minute)
			},
		},
		{name: "a capture of no time", seen: []device.MAC{ipad, front}, of: func(c *device.Capture) { c.First, c.Last = time.Time{}, time.Time{} }},
		{
			name: "a random address", seen: []device.MAC{random}, setup: add(func(c *cloudtraxtest.Client) { c.MAC = random }),
			want: []string{"reception-ipad · AP Front office · SSID HQ-Staff (client; medium; its hardware address is random)"},
		},
		{
			name: "a random address of another time", seen: []device.MAC{other},
			setup: add(func(c *cloudtraxtest.Client) { c.MAC, c.LastSeen = other, time.Now().Add(-17*time.Minute) }),
		},
		{
			name: "a random address of no time", seen: []device.MAC{other},
			setup: add(func(c *cloudtraxtest.Client) { c.MAC, c.Never = other, true }),
		},
		{
			name: "a router", of: func(c *device.Capture) {
				c.Seen = append(c.Seen, device.Seen{MAC: ipad, Behind: 21}, device.Seen{MAC: scanner, Behind: 20})
			},
			want: []string{"warehouse-scanner · AP Warehouse · SSID HQ-Staff · Android (client; high)"},
		},
		{
			name: "a gateway by its address", of: func(c *device.Capture) {
				c.Addresses = append(c.Addresses, ip("192.0.2.240"), ip("::ffff:10.255.240.1"))
			},
			want: []string{"AP Front office (gateway; medium; NAT behind AP Front office, the client can't be told)"},
		},
		{
			name: "a gateway by both", seen: []device.MAC{front}, of: func(c *device.Capture) { c.Addresses = append(c.Addresses, ip("192.0.2.240")) },
			want: []string{"AP Front office (gateway; high; NAT behind AP Front office, the client can't be told)"},
		},
		{
			name: "an address that two gateways have", of: func(c *device.Capture) { c.Addresses = append(c.Addresses, ip("10.255.240.1")) },
			setup: func(s *cloudtraxtest.Server) {
				s.AddNode(cloudtraxtest.Node{Network: 12345, MAC: doc(0xf5), Name: "Other", Gateway: true, LAN: ip("10.255.240.1")})
				s.AddNode(cloudtraxtest.Node{Network: 12345, MAC: doc(0xf6), Name: "Third", Gateway: true, LAN: ip("10.255.240.1")})
			},
		},
		{
			name: "an address of the mesh", of: func(c *device.Capture) { c.Addresses = append(c.Addresses, ip("6.59.122.128"), ip("6.59.122.0")) },
			setup: func(s *cloudtraxtest.Server) {
				s.AddNode(cloudtraxtest.Node{Network: 12345, MAC: doc(0xf5), Name: "Mesh", Gateway: true, LAN: ip("6.59.122.128"), WAN: ip("6.59.122.128")})
			},
		},
		{
			name: "what only a switch knows", seen: []device.MAC{nobody},
			setup: func(s *cloudtraxtest.Server) {
				s.AddSwitch(cloudtraxtest.Switch{Network: 12345, ID: 5, MAC: doc(0xf9), Name: "hall", Ports: []cloudtraxtest.Port{{ID: "trunk4", MACs: []device.MAC{nobody}}}})
			},
			want: []string{"00:00:5e:00:53:77 · switch hall port trunk4 (client; medium)"},
		},
		{
			name: "what is behind an uplink", seen: []device.MAC{nobody},
			setup: func(s *cloudtraxtest.Server) {
				s.AddSwitch(cloudtraxtest.Switch{Network: 12345, ID: 5, MAC: doc(0xf9), Name: "hall", Ports: []cloudtraxtest.Port{{ID: "1", Uplink: true, MACs: []device.MAC{nobody}}}})
			},
		},
		{
			name: "an evil twin, perhaps", seen: []device.MAC{evil},
			want: []string{"foreign AP HQ-Staff · Unknown · WPA2 · -43 dBm at Front office (access point; low; it uses an SSID of ours: possibly an evil twin, or our own)"},
		},
		{
			name: "who is in two networks, the other way round", seen: []device.MAC{ipad},
			setup: func(s *cloudtraxtest.Server) {
				s.AddNetwork(cloudtraxtest.Network{ID: 5, Name: "Branch", SSIDs: []string{"Branch"}})
				s.AddClient(cloudtraxtest.Client{Network: 5, MAC: ipad, Name: "elsewhere", SSID: 1, LastSeen: time.Now().Add(time.Second)})
			},
			want: []string{"elsewhere · SSID Branch (client; high)"},
		},
		{
			name: "who is in two networks is where it was seen last", seen: []device.MAC{ipad},
			setup: func(s *cloudtraxtest.Server) {
				s.AddNetwork(cloudtraxtest.Network{ID: 5, Name: "Branch", SSIDs: []string{"Branch"}})
				s.AddClient(cloudtraxtest.Client{Network: 5, MAC: ipad, Name: "elsewhere", SSID: 1, LastSeen: time.Now().Add(-time.Hour)})
			},
			want: []string{"reception-ipad · AP Front office · SSID HQ-Staff · iOS 17.1 (client; high)"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, r := inBubble(t, cloudtraxtest.Options{}, nil)
				if test.setup != nil {
					test.setup(s)
				}
				refresh(t, r)
				c := captured(test.seen...)
				if test.of != nil {
					test.of(&c)
				}
				got := named(t, r, c)
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Error(diff)
				}
				checkSecrets(t, s, r, got...)
			})
		})
	}
}

func TestAddressesAreTheCapturesOwn(t *testing.T) {
	_, r := overWire(t, cloudtraxtest.Options{}, nil)
	refresh(t, r)
	for name, tc := range map[string]struct {
		seen     []string
		bindings []string
		want     string
	}{
		"what it said":            {nil, []string{"192.0.2.1", "2001:db8::1", "192.0.2.1"}, "192.0.2.1 2001:db8::1"},
		"what it said goes first": {[]string{"192.0.2.9"}, []string{"192.0.2.1"}, "192.0.2.1"},
		"what it sent for":        {[]string{"192.0.2.9", "fe80::1%eth0", "2001:db8::1"}, nil, "192.0.2.9 fe80::1 2001:db8::1"},
		"others behind it":        {[]string{"192.0.2.9", "203.0.113.1"}, nil, ""},
		"addresses of the mesh":   {[]string{"192.0.2.9", "6.1.2.3", "0.0.0.0", "255.255.255.255"}, []string{"6.1.2.3"}, "192.0.2.9"},
	} {
		c := captured()
		s := device.Seen{MAC: ipad, Behind: len(tc.seen)}
		for _, text := range tc.seen {
			s.IPs = append(s.IPs, netip.MustParseAddr(text))
		}
		c.Seen = append(c.Seen, s)
		for _, text := range tc.bindings {
			c.Bindings = append(c.Bindings, bind(ipad, text, ""))
		}
		list, err := r.Devices(t.Context(), c)
		if err != nil || len(list) != 1 {
			t.Fatal(list, err)
		}
		var got []string
		for _, a := range list[0].IPs {
			got = append(got, a.String())
		}
		if strings.Join(got, " ") != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestNoMoreDevicesThanFit(t *testing.T) {
	s, r := overWire(t, cloudtraxtest.Options{}, nil)
	c := captured()
	for i := range device.MaxDevices + 10 {
		m := device.MAC{0, 0x10, 0, 0, byte(i >> 8), byte(i)}
		s.AddClient(cloudtraxtest.Client{Network: 12345, MAC: m, Name: "x", SSID: 1})
		c.Seen = append(c.Seen, device.Seen{MAC: m, Behind: 1})
	}
	c.Last = time.Now().Add(time.Second)
	refresh(t, r)
	if list, err := r.Devices(t.Context(), c); err != nil || len(list) != device.MaxDevices {
		t.Errorf("%d, %v", len(list), err)
	}
}
