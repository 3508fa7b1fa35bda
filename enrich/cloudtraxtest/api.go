package cloudtraxtest

import (
	"cmp"
	"encoding/json"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"capagent/enrich/device"
	"capagent/internal/lazy"
	"capagent/internal/standin"
)

// never are the paths of contract 2.3 that do something, whatever their method.
var never = lazy.Regexp(`^(/(node|switch|powerstrip)/[^/]+/(reboot|reset_encrypt_key|enable_pairing|expedite_upgrade|port/[^/]+/reset)|` +
	`/sitesurvey/network/[^/]+/scan|/account/credential/[^/]+/embed)/?$`)

type object = map[string]any

// routes are what can be asked for. The network that a path names is there.
var routes = []struct {
	method string
	path   func() *regexp.Regexp
	answer func(s *Server, c *standin.Call, id int)
}{
	{"GET", lazy.Regexp(`^/time()$`), func(s *Server, c *standin.Call, _ int) {
		s.json(c, object{"time": c.Now().UTC().Format(time.RFC3339)})
	}},
	{"GET", lazy.Regexp(`^/network/list()$`), (*Server).listNetworks},
	{"GET", lazy.Regexp(`^/node/network/([0-9]+)/list$`), (*Server).listNodes},
	{"GET", lazy.Regexp(`^/history/network/([0-9]+)/clients$`), (*Server).listClients},
	{"GET", lazy.Regexp(`^/client/network/([0-9]+)/block$`), (*Server).listBlocked},
	{"PUT", lazy.Regexp(`^/client/network/([0-9]+)/block$`), (*Server).block},
	{"GET", lazy.Regexp(`^/switch/network/([0-9]+)/list$`), (*Server).listSwitches},
	{"GET", lazy.Regexp(`^/switch/([0-9]+)$`), (*Server).showSwitch},
	{"GET", lazy.Regexp(`^/sitesurvey/network/([0-9]+)$`), (*Server).survey},
	{"GET", lazy.Regexp(`^/network/([0-9]+)/settings$`), (*Server).settings},
}

func (s *Server) api(c *standin.Call) {
	if never().MatchString(c.R.URL.Path) {
		s.Count("forbidden")
		s.refuse(c, http.StatusForbidden, 1018, "not allowed")
		return
	}
	if code, text := s.authenticate(c); code != 0 {
		s.refuse(c, http.StatusUnauthorized, code, text)
		return
	}
	switch {
	case c.Is("code"):
		code, _ := strconv.Atoi(c.Fault.Text)
		s.refuse(c, c.Fault.Status, code, "as asked for")
		return
	case c.Is("empty"):
		s.json(c, object{})
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range routes {
		m := r.path().FindStringSubmatch(c.R.URL.Path)
		if m == nil || r.method != c.R.Method {
			continue
		}
		id, _ := strconv.Atoi(m[1])
		isNetwork := m[1] != "" && !strings.HasPrefix(c.R.URL.Path, "/switch/"+m[1])
		if isNetwork && !slices.ContainsFunc(s.networks, func(n Network) bool { return n.ID == id }) {
			s.refuse(c, http.StatusNotFound, 1004, "no such network")
			return
		}
		r.answer(s, c, id)
		return
	}
	s.refuse(c, http.StatusNotFound, 1002, "unknown request")
}

func (s *Server) json(c *standin.Call, v any) { c.JSON(http.StatusOK, v) }

func (s *Server) refuse(c *standin.Call, status, code int, text string) {
	c.Send(status, "application/json", failure(code, text))
}

// either gives a number as a number or as text, in turns.
func either(n, turn int) any {
	if turn%2 == 1 {
		return strconv.Itoa(n)
	}
	return n
}

// mixed gives a hardware address in either case, in turns.
func mixed(m device.MAC, turn int) string {
	if turn%2 == 0 {
		return strings.ToUpper(m.String())
	}
	return m.String()
}

func addr(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

func (s *Server) listNetworks(c *standin.Call, _ int) {
	list := []any{}
	for i, n := range s.networks {
		list = append(list, object{"name": n.Name, "id": either(n.ID, i), "latitude": 0, "longitude": "0", "node_count": len(s.nodes)})
	}
	if c.Is("lies") {
		list = append(list, 7, nil, object{"id": "../1"}, object{"id": []int{1}})
	}
	s.json(c, object{"networks": list})
}

func (s *Server) listNodes(c *standin.Call, network int) {
	nodes := object{}
	for i, n := range s.nodes {
		if n.Network != network {
			continue
		}
		one := object{
			"mac": mixed(n.MAC, i), "name": n.Name, "ip": "6.59.122." + strconv.Itoa(i), "role": "repeater", "down": false,
			"last_checkin": s.now().UTC().Format(time.RFC3339), "channels": object{"2_4GHz": 5, "5GHz": 44}, "neighbors": []any{},
		}
		if n.Gateway {
			one["role"] = "gateway"
			one["lan_info"] = object{"lan_ip": addr(n.LAN), "wan_ip": addr(n.WAN)}
		}
		nodes[strconv.Itoa(529813+i)] = one
	}
	if c.Is("lies") {
		nodes["x"], nodes["y"], nodes["z"] = 5, object{"mac": "not one"}, object{"mac": object{}}
	}
	s.json(c, object{"nodes": nodes})
}

// history is a client as the client table and the block list have it.
func (s *Server) history(cl *Client, turn int) object {
	seen := cl.LastSeen
	if s.opts.AlwaysCurrent {
		seen = s.now()
	}
	one := object{
		"cid": cl.CID, "name": cl.Name, "name_override": cl.Override, "signal": object{"antenna1": -52, "antenna2": either(-54, turn)},
		"band": "5.8", "channel_width": either(40, turn), "link": "wireless", "last_seen": seen.UTC().Format(time.RFC3339),
		"os": cl.OS, "os_version": cl.OSVersion, "blocked": cl.Blocked, "traffic": []any{},
	}
	if cl.Never {
		one["last_seen"] = ""
	}
	if turn%2 == 1 { // as a number
		one["blocked"] = map[bool]int{true: 1}[cl.Blocked]
	}
	if cl.SSID == 0 {
		one["link"], one["signal"] = "wired", object{}
	} else {
		one["traffic"] = object{"ssid" + strconv.Itoa(cl.SSID): object{"bup": 1, "bdown": "2"}}
	}
	for _, n := range s.nodes {
		if n.MAC == cl.AP {
			one["last_name"], one["last_node"] = n.Name, mixed(n.MAC, turn)
		}
	}
	return one
}

func (s *Server) listClients(c *standin.Call, network int) {
	table := object{}
	period := map[string]time.Duration{"2hours": 2 * time.Hour, "": 24 * time.Hour, "day": 24 * time.Hour, "week": 7 * 24 * time.Hour, "month": 30 * 24 * time.Hour}[c.R.URL.Query().Get("period")]
	for i, cl := range s.clients {
		if cl.Network == network && (cl.Never || s.opts.AlwaysCurrent || s.now().Sub(cl.LastSeen) <= period) {
			table[mixed(cl.MAC, i)] = s.history(cl, i)
		}
	}
	if c.Is("lies") {
		table["no address"], table["00:00:5e:00:53:99"], table["00:00:5e:00:53:98"] = object{"name": "x"}, "text", nil
		table["00:00:5e:00:53:97"] = object{"name": 7, "cid": object{}, "last_seen": "yesterday", "traffic": 5, "blocked": "perhaps", "os": []int{1}}
	}
	if !s.opts.ClientsAsList {
		s.json(c, table)
		return
	}
	list := []any{}
	for mac, one := range table {
		list = append(list, object{mac: one})
	}
	s.json(c, list)
}

func (s *Server) listBlocked(c *standin.Call, network int) {
	table := object{}
	for i, cl := range s.clients {
		if cl.Network == network && cl.Blocked {
			table[mixed(cl.MAC, i)] = s.history(cl, i)
		}
	}
	s.json(c, object{"clients": table})
}

func (s *Server) block(c *standin.Call, network int) {
	var order struct {
		Block     *int     `json:"block"`
		ClientIDs []string `json:"client_ids"`
	}
	switch err := json.Unmarshal(c.Body, &order); {
	case s.opts.ReadOnly:
		s.refuse(c, http.StatusForbidden, 13006, "the key is read-only")
		return
	case err != nil || order.Block == nil || *order.Block != 0 && *order.Block != 1:
		s.refuse(c, http.StatusBadRequest, 1005, "a parameter is missing")
		return
	case len(order.ClientIDs) == 0:
		s.refuse(c, http.StatusBadRequest, 11000, "the list of clients is empty")
		return
	}
	for _, cid := range order.ClientIDs {
		i := slices.IndexFunc(s.clients, func(cl *Client) bool { return cl.Network == network && cl.CID == cid })
		if i < 0 {
			s.refuse(c, http.StatusBadRequest, 1017, "element not found")
			return
		}
		s.clients[i].Blocked = *order.Block == 1
		s.Count(cmp.Or(map[int]string{1: "block"}[*order.Block], "unblock"))
	}
	s.json(c, object{"code": 1009, "message": "Success.", "context": "block", "values": object{}})
}

func (s *Server) listSwitches(c *standin.Call, network int) {
	list := []any{}
	for i, w := range s.switches {
		if w.Network == network {
			list = append(list, object{"id": either(w.ID, i+1), "poe": object{}, "summary_info": object{"mac": mixed(w.MAC, i), "name": w.Name, "model": "S24", "total_ports": 24}})
		}
	}
	if c.Is("lies") {
		list = append(list, "x", object{"id": "1/reboot", "summary_info": object{"mac": "00:00:5e:00:53:01"}}, object{"id": 1, "summary_info": 3})
	}
	s.json(c, object{"switches": list})
}

func (s *Server) showSwitch(c *standin.Call, id int) {
	for _, w := range s.switches {
		if w.ID != id {
			continue
		}
		ports := []any{}
		for i, p := range w.Ports {
			macs := []any{}
			for j, m := range p.MACs {
				macs = append(macs, mixed(m, i+j))
			}
			if c.Is("lies") {
				macs = append(macs, 5, "x", nil)
			}
			ports = append(ports, object{"id": p.ID, "status": "up", "uplink": p.Uplink, "vlan_id": either(p.VLAN, i), "connected_device_mac_list": macs})
		}
		s.json(c, object{"id": id, "snmp": object{"community": Secrets()[4]}, "ports": ports})
		return
	}
	s.refuse(c, http.StatusNotFound, 1017, "element not found")
}

func (s *Server) survey(c *standin.Call, network int) {
	list := []any{}
	for i, f := range s.foreign {
		if f.Network == network {
			list = append(list, object{
				"ssid": f.SSID, "bssid": mixed(f.BSSID, i), "mode": "AP", "encryption": f.Encryption, "vendor": f.Vendor, "channel": []int{6}, "channel_width": "20",
				"seen_by_node": []any{object{"name": f.Near, "signal": either(f.Signal, i+1)}},
			})
		}
	}
	if c.Is("lies") {
		list = append(list, nil, object{"bssid": 5}, object{"bssid": "00:00:5e:00:53:e1", "seen_by_node": "x"})
	}
	s.json(c, object{"access_points": list})
}

func (s *Server) settings(c *standin.Call, network int) {
	ssids := object{}
	for i := range 4 {
		ssids[strconv.Itoa(i+1)] = object{
			"general":  object{"wifi_name": s.ssid(network, i+1), "enabled": i < 2},
			"security": object{"wpa_password": Secrets()[0], "radius": object{"secret": Secrets()[2]}},
			"portal":   object{"password": Secrets()[3]},
		}
	}
	s.json(c, object{"name": "x", "node_root_password": Secrets()[1], "ssids": ssids})
}
