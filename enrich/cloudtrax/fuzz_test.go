package cloudtrax

import (
	"net/netip"
	"testing"

	"capagent/enrich/device"
)

// seeds are replies as the contract shows them, and as nobody should send them.
var seeds = []string{
	``, `null`, `{}`, `[]`, `[[`, `{"networks":[{"name":"HQ","id":"12345"},{"id":1},7]}`,
	`{"nodes":{"529813":{"mac":"AC:86:74:00:00:01","name":"Front","role":"gateway","lan_info":{"lan_ip":"10.255.240.1","wan_ip":"6.1.2.3"}},"2":{"lan_info":[]}}}`,
	`[{"00:00:5e:00:53:01":{"cid":"31792","name":"ipad","last_seen":"2026-01-01T00:00:00Z","blocked":1,"traffic":{"ssid1":{"bup":1}}}}]`,
	`{"00:00:5E:00:53:01":{"cid":7,"name":{},"traffic":[],"blocked":"1","last_seen":""}}`, `{"clients":{"00:00:5e:00:53:01":{}}}`,
	`{"clients":[{"mac":"00:00:5e:00:53:01"},{"01:00:5e:00:00:01":{}}]}`,
	`{"switches":[{"id":1,"summary_info":{"mac":"00:00:5e:00:53:01","name":"john"}},{"id":"1/reboot"}]}`,
	`{"ports":[{"id":"trunk4","uplink":"0","vlan_id":1,"connected_device_mac_list":["00:00:5e:00:53:01",{"mac":"00:00:5e:00:53:02"},3]}]}`,
	`{"access_points":[{"bssid":"00:00:5e:00:53:01","ssid":"x","seen_by_node":[{"name":"a","signal":-50},{"name":"b","signal":"-43"}]}]}`,
	`{"ssids":{"1":{"general":{"wifi_name":"HQ\u202e"}},"2":{"general":3}},"node_root_password":"x"}`, `{"ssids":[{"general":{"wifi_name":"x"}}]}`,
}

func fuzz(f *testing.F, check func(t *testing.T, data []byte)) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(check)
}

// isClean holds what is promised of all text that a decoder hands out.
func isClean(t *testing.T, texts ...string) {
	t.Helper()
	for _, s := range texts {
		if s != device.Clean(s) {
			t.Errorf("%q is not clean", s)
		}
	}
}

func isMAC(t *testing.T, m device.MAC) {
	t.Helper()
	if m.Multicast() || m == (device.MAC{}) {
		t.Errorf("%s is no machine's", m)
	}
}

func FuzzNetworks(f *testing.F) {
	fuzz(f, func(t *testing.T, data []byte) {
		d, _ := decodeNetworks(data)
		for _, n := range d.list {
			if isClean(t, n.name); n.id.String() == "" {
				t.Error("a network without an id")
			}
		}
	})
}

func FuzzNodes(f *testing.F) {
	fuzz(f, func(t *testing.T, data []byte) {
		d, _ := decodeNodes(data)
		for _, n := range d.list {
			isClean(t, n.name)
			isMAC(t, n.mac)
			for _, a := range []netip.Addr{n.lan, n.wan} {
				if a.IsValid() && (!n.gateway || mesh.Contains(a)) {
					t.Errorf("%s of %+v", a, n)
				}
			}
		}
	})
}

func FuzzClients(f *testing.F) {
	fuzz(f, func(t *testing.T, data []byte) {
		d, err := decodeClients(data)
		if err != nil && d.list != nil && d.looked == 0 {
			t.Error("clients of nothing")
		}
		for _, c := range d.list {
			isClean(t, append([]string{c.name, c.ap, c.os}, c.ssids...)...)
			isMAC(t, c.mac)
			if len(c.cid) > maxWord || len(c.ssids) > maxSSIDs {
				t.Errorf("%+v", c)
			}
		}
	})
}

func FuzzSwitches(f *testing.F) {
	fuzz(f, func(t *testing.T, data []byte) {
		d, _ := decodeSwitches(data)
		for _, s := range d.list {
			isClean(t, s.name)
			isMAC(t, s.mac)
		}
	})
}

func FuzzPorts(f *testing.F) {
	fuzz(f, func(t *testing.T, data []byte) {
		d, _ := decodePorts(data)
		for _, p := range d.list {
			isClean(t, p.id, p.vlan)
			for _, m := range p.macs {
				isMAC(t, m)
			}
		}
	})
}

func FuzzSurvey(f *testing.F) {
	fuzz(f, func(t *testing.T, data []byte) {
		d, _ := decodeSurvey(data)
		for _, a := range d.list {
			isClean(t, a.ssid, a.vendor, a.cipher, a.near)
			isMAC(t, a.bssid)
			if a.signal > 0 || a.signal < -120 {
				t.Errorf("%d dBm", a.signal)
			}
		}
	})
}

func FuzzSettings(f *testing.F) {
	fuzz(f, func(t *testing.T, data []byte) {
		ssids, _ := decodeSettings(data)
		if len(ssids) > maxSSIDs {
			t.Errorf("%d SSIDs", len(ssids))
		}
		for _, name := range ssids {
			isClean(t, name)
		}
	})
}
