package cloudtrax

import (
	"bytes"
	"encoding/json"
	"strings"

	"capagent/enrich/device"
)

// clientRecord is what is taken of a client; what a capture can't be joined with is
// left out.
type clientRecord struct {
	MAC      word     `json:"mac"`
	CID      word     `json:"cid"`
	Name     name     `json:"name"`
	Override name     `json:"name_override"`
	Link     word     `json:"link"`
	Seen     moment   `json:"last_seen"`
	AP       name     `json:"last_name"`
	OS       name     `json:"os"`
	Version  name     `json:"os_version"`
	Blocked  flag     `json:"blocked"`
	Traffic  ssidKeys `json:"traffic"`
}

// ssidKeys are the keys of an object that name SSIDs.
type ssidKeys []string

func (s *ssidKeys) UnmarshalJSON(data []byte) error {
	*s = nil
	if len(data) == 0 || data[0] != '{' {
		return nil
	}
	left := maxSSIDs
	_ = each(data, func(key string, _ json.RawMessage) bool { // what is broken has no more keys
		if n, ok := strings.CutPrefix(key, "ssid"); ok && len(n) > 0 && len(n) <= 2 && strings.Trim(n, "0123456789") == "" {
			*s = append(*s, key)
		}
		left--
		return left > 0
	})
	return nil
}

func newClient(mac string, r clientRecord) (client, bool) {
	m, ok := parseMAC(mac)
	c := client{
		mac: m, cid: string(r.CID), name: string(r.Override), ap: string(r.AP), ssids: r.Traffic, os: device.Clean(string(r.OS) + " " + string(r.Version)),
		wired: r.Link == "wired", blocked: bool(r.Blocked), seen: r.Seen.Time,
	}
	if c.name == "" {
		c.name = string(r.Name)
	}
	return c, ok
}

// decodeClients reads a client table: an object by hardware address, an array of
// objects with one key each, or either under "clients" (contract 2.3).
func decodeClients(data []byte) (d decoded[client], err error) {
	if inner, err := under(data, "clients"); err == nil {
		data = inner
	}
	err = each(data, func(key string, record json.RawMessage) bool {
		if d.room(maxClients) {
			if key == "" {
				key, record = onlyKey(record)
			}
			addClient(&d, key, record)
		}
		return d.skipped <= maxClients
	})
	if err != nil {
		return d, noList("clients")
	}
	return d, nil
}

// onlyKey opens an object whose one key is a hardware address. Other records are
// returned as they are.
func onlyKey(record json.RawMessage) (string, json.RawMessage) {
	only, inner := "", record
	_ = each(record, func(key string, r json.RawMessage) bool { // what is broken is a record of its own
		if _, ok := parseMAC(key); ok {
			only, inner = key, bytes.Clone(r)
		}
		return false
	})
	return only, inner
}

// addClient adds a record whose hardware address is its key or, without one, a field.
func addClient(d *decoded[client], key string, record json.RawMessage) {
	var r clientRecord
	ok := fields(record, &r)
	if key == "" {
		key = string(r.MAC)
	}
	c, isMAC := newClient(key, r)
	d.add(c, ok && isMAC)
}
