package cloudtrax

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"capagent/enrich/cloudtrax/api"
	"capagent/enrich/device"
)

// Bounds of what is looked at of one reply. As many again are counted as skipped.
const (
	maxClients  = 50_000
	maxNodes    = 5_000
	maxSwitches = 100 // each is a request of its own
	maxPorts    = 200
	maxOnPort   = 1_000
	maxForeign  = 10_000
	maxSSIDs    = 16
	maxHeardBy  = 100
	maxKeys     = 1_000 // of a reply, where the one that counts is looked for
)

// network is one of those that the key may see.
type network struct {
	id   api.ID
	name string
}

// node is an access point.
type node struct {
	mac      device.MAC
	name     string
	gateway  bool
	lan, wan netip.Addr // of a gateway, zero when they are not told
}

// client is one of the client table.
type client struct {
	mac     device.MAC
	cid     string
	name    string
	ap      string   // name of the access point that it used last
	ssids   []string // "ssid1": their keys
	os      string
	wired   bool
	blocked bool
	seen    time.Time // zero: not told
}

// desk is a switch.
type desk struct {
	id    api.ID
	mac   device.MAC
	name  string
	ports []port
}

// port is a port to which machines are connected.
type port struct {
	id, vlan string
	macs     []device.MAC
}

// foreign is an access point of others.
type foreign struct {
	bssid                device.MAC
	ssid, vendor, cipher string
	near                 string // the node that heard it best
	signal               int    // dBm, 0 when it is not told
}

// decoded says how many records made no sense.
type decoded[T any] struct {
	list    []T
	looked  int // at so many records
	skipped int
}

// room says whether one more is looked at; one that is not is skipped.
func (d *decoded[T]) room(most int) bool {
	if d.looked >= most {
		d.skipped++
		return false
	}
	d.looked++
	return true
}

func (d *decoded[T]) add(one T, ok bool) {
	if !ok {
		d.skipped++
		return
	}
	d.list = append(d.list, one)
}

// under is what a reply has under a key.
func under(data []byte, key string) (json.RawMessage, error) {
	if data = bytes.TrimSpace(data); len(data) == 0 || data[0] != '{' {
		return nil, errNoList
	}
	var found json.RawMessage
	n := 0
	err := each(data, func(k string, record json.RawMessage) bool {
		if k == key {
			found = bytes.Clone(record)
		}
		n++
		return found == nil && n < maxKeys
	})
	if err == nil && found == nil {
		err = errNoList
	}
	return found, err
}

func noList(key string) error {
	return api.Fail(api.ClassBadReply, fmt.Errorf("the answer has no list of %s", key))
}

// decodeAll decodes the records under a key.
func decodeAll[T any](data []byte, key string, most int, one func(json.RawMessage) (T, bool)) (d decoded[T], err error) {
	raw, err := under(data, key)
	if err != nil {
		return d, noList(key)
	}
	err = each(raw, func(_ string, record json.RawMessage) bool {
		if d.room(most) {
			d.add(one(record))
		}
		return d.skipped <= most
	})
	if err != nil {
		return d, noList(key)
	}
	return d, nil
}

// fields reads the fields of a record, which must be an object.
func fields(record json.RawMessage, to any) bool {
	return len(record) > 0 && record[0] == '{' && json.Unmarshal(record, to) == nil
}

func decodeNetworks(data []byte) (decoded[network], error) {
	return decodeAll(data, "networks", maxNetworks, func(record json.RawMessage) (network, bool) {
		var r struct {
			ID   word `json:"id"`
			Name name `json:"name"`
		}
		ok := fields(record, &r)
		id, isID := api.ParseID(string(r.ID))
		return network{id, string(r.Name)}, ok && isID
	})
}

func decodeNodes(data []byte) (decoded[node], error) {
	return decodeAll(data, "nodes", maxNodes, func(record json.RawMessage) (node, bool) {
		var r struct { // "ip" is an address of the mesh: nothing that a capture shows
			MAC  word `json:"mac"`
			Name name `json:"name"`
			Role word `json:"role"`
			LAN  loose[struct {
				LAN word `json:"lan_ip"`
				WAN word `json:"wan_ip"`
			}] `json:"lan_info"`
		}
		ok := fields(record, &r)
		mac, isMAC := parseMAC(string(r.MAC))
		n := node{mac: mac, name: string(r.Name), gateway: r.Role == "gateway"}
		if n.gateway {
			n.lan, n.wan = address(r.LAN.v.LAN), address(r.LAN.v.WAN)
		}
		return n, ok && isMAC
	})
}

// mesh is what CloudTrax's access points use among themselves. On the wire these are
// somebody else's (contract 2.4).
var mesh = netip.MustParsePrefix("6.0.0.0/8")

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// address is an address that a capture may show, or zero.
func address(text word) netip.Addr {
	a, err := netip.ParseAddr(string(text))
	if a = a.Unmap().WithZone(""); err != nil || !usable(a) {
		return netip.Addr{}
	}
	return a
}

func usable(a netip.Addr) bool {
	return a.IsValid() && !a.IsUnspecified() && !a.IsLoopback() && !a.IsMulticast() && !mesh.Contains(a) && a != broadcast
}

// parseMAC takes the address of one machine.
func parseMAC(text string) (device.MAC, bool) {
	m, ok := device.ParseMAC(text)
	return m, ok && m != device.MAC{} && !m.Multicast()
}

func decodeSwitches(data []byte) (decoded[desk], error) {
	return decodeAll(data, "switches", maxSwitches, func(record json.RawMessage) (desk, bool) {
		var r struct {
			ID      word `json:"id"`
			Summary loose[struct {
				MAC  word `json:"mac"`
				Name name `json:"name"`
			}] `json:"summary_info"`
		}
		ok := fields(record, &r)
		id, isID := api.ParseID(string(r.ID))
		mac, isMAC := parseMAC(string(r.Summary.v.MAC))
		return desk{id: id, mac: mac, name: string(r.Summary.v.Name)}, ok && isID && isMAC
	})
}

// decodePorts reads the ports of a switch to which machines are connected. Uplinks
// lead to other switches, and to everybody behind them.
func decodePorts(data []byte) (decoded[port], error) {
	d, err := decodeAll(data, "ports", maxPorts, func(record json.RawMessage) (port, bool) {
		var r struct {
			ID     word `json:"id"`
			Uplink flag `json:"uplink"`
			VLAN   word `json:"vlan_id"`
			MACs   macs `json:"connected_device_mac_list"`
		}
		ok := fields(record, &r)
		if r.Uplink {
			r.MACs = nil
		}
		return port{device.Clean(string(r.ID)), device.Clean(string(r.VLAN)), r.MACs}, ok
	})
	return d, err
}

// macs are hardware addresses, as text or in objects: CloudTrax's documentation shows
// empty lists only.
type macs []device.MAC

func (m *macs) UnmarshalJSON(data []byte) error {
	*m = nil
	left := maxOnPort
	_ = each(data, func(key string, record json.RawMessage) bool { // what is no list is empty
		var text word
		var in loose[struct {
			MAC word `json:"mac"`
		}]
		_, _ = text.UnmarshalJSON(record), in.UnmarshalJSON(record) // they never fail
		for _, t := range []string{string(text), string(in.v.MAC), key} {
			if mac, ok := parseMAC(t); ok {
				*m = append(*m, mac)
				break
			}
		}
		left--
		return left > 0
	})
	return nil
}

func decodeSurvey(data []byte) (decoded[foreign], error) {
	return decodeAll(data, "access_points", maxForeign, func(record json.RawMessage) (foreign, bool) {
		var r struct {
			BSSID  word    `json:"bssid"`
			SSID   name    `json:"ssid"`
			Vendor name    `json:"vendor"`
			Cipher name    `json:"encryption"`
			Heard  hearing `json:"seen_by_node"`
		}
		ok := fields(record, &r)
		mac, isMAC := parseMAC(string(r.BSSID))
		return foreign{mac, string(r.SSID), string(r.Vendor), string(r.Cipher), r.Heard.near, r.Heard.signal}, ok && isMAC
	})
}

// hearing is the node that heard an access point best.
type hearing struct {
	near   string
	signal int // dBm, 0 when it is not told
}

func (h *hearing) UnmarshalJSON(data []byte) error {
	*h = hearing{}
	left := maxHeardBy
	_ = each(data, func(_ string, record json.RawMessage) bool { // what is no list says nothing
		var r struct {
			Name   name `json:"name"`
			Signal word `json:"signal"`
		}
		left--
		if !fields(record, &r) || r.Name == "" {
			return left > 0
		}
		signal, err := strconv.Atoi(string(r.Signal))
		if err != nil || signal >= 0 || signal < -120 {
			signal = 0
		}
		if h.near == "" || signal != 0 && (h.signal == 0 || signal > h.signal) {
			*h = hearing{string(r.Name), signal}
		}
		return left > 0
	})
	return nil
}

// decodeSettings reads how the SSIDs are called. The reply holds passwords: none of
// its other fields is ever decoded.
func decodeSettings(data []byte) (map[string]string, error) {
	raw, err := under(data, "ssids")
	if err != nil {
		return nil, noList("ssids")
	}
	ssids, n := map[string]string{}, 0
	err = each(raw, func(key string, record json.RawMessage) bool {
		if n++; key == "" {
			key = strconv.Itoa(n) // an array
		}
		var r struct {
			General loose[struct {
				Name name `json:"wifi_name"`
			}] `json:"general"`
		}
		if fields(record, &r) && r.General.v.Name != "" {
			ssids["ssid"+device.Clean(key)] = string(r.General.v.Name)
		}
		return n < maxSSIDs
	})
	if err != nil {
		return nil, noList("ssids")
	}
	return ssids, nil
}
