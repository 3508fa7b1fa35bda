package cloudtraxtest

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"capagent/enrich/device"
	"capagent/internal/standin"
)

// Network is one network. Its SSIDs are named "ssid1" and so on, in this order.
type Network struct {
	ID    int
	Name  string
	SSIDs []string
}

// Node is an access point.
type Node struct {
	Network  int
	MAC      device.MAC
	Name     string
	Gateway  bool
	LAN, WAN netip.Addr // of a gateway
}

// Client is a client as the history has it.
type Client struct {
	Network        int
	MAC            device.MAC
	CID            string // "": made from MAC
	Name, Override string
	AP             device.MAC // node that it used last
	SSID           int        // 1 to 4; 0 is wired
	OS, OSVersion  string
	LastSeen       time.Time // zero: when it was added; see Options.AlwaysCurrent
	Never          bool      // last_seen is ""
	Blocked        bool
}

// Switch is a switch with its ports.
type Switch struct {
	Network, ID int
	MAC         device.MAC
	Name        string
	Ports       []Port
}

// Port is one port, and what is connected to it.
type Port struct {
	ID     string
	Uplink bool
	VLAN   int
	MACs   []device.MAC
}

// Foreign is an access point of others that a node heard.
type Foreign struct {
	Network          int
	BSSID            device.MAC
	SSID, Vendor     string
	Encryption, Near string
	Signal           int
}

// AddNetwork adds a network.
func (s *Server) AddNetwork(n Network) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.networks = append(s.networks, n)
}

// AddNode adds an access point.
func (s *Server) AddNode(n Node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nodes = append(s.nodes, n)
}

// AddClient adds a client, or replaces the one that has its hardware address there.
func (s *Server) AddClient(c Client) {
	if c.CID == "" {
		sum := sha256.Sum256(fmt.Append(nil, c.Network, c.MAC))
		c.CID = base64.URLEncoding.EncodeToString(sum[:])
	}
	if c.LastSeen.IsZero() {
		c.LastSeen = s.now()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clients = slices.DeleteFunc(s.clients, func(o *Client) bool { return o.Network == c.Network && o.MAC == c.MAC })
	s.clients = append(s.clients, &c)
}

// RemoveClient has a client vanish from the history.
func (s *Server) RemoveClient(mac device.MAC) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clients = slices.DeleteFunc(s.clients, func(o *Client) bool { return o.MAC == mac })
}

// AddSwitch adds a switch.
func (s *Server) AddSwitch(w Switch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.switches = append(s.switches, w)
}

// AddForeign adds an access point of others.
func (s *Server) AddForeign(f Foreign) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.foreign = append(s.foreign, f)
}

// Blocked returns the hardware addresses that are blocked, in the order in which the
// clients were added.
func (s *Server) Blocked() []device.MAC {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []device.MAC
	for _, c := range s.clients {
		if c.Blocked {
			out = append(out, c.MAC)
		}
	}
	return out
}

// demoNetwork is the network of Demo.
const demoNetwork = 12345

// Demo adds a small office. The first addresses are those of its clients:
// "reception-ipad" first, then others; without any, addresses for documentation
// (RFC 7042 2.1.1) are taken.
func (s *Server) Demo(macs ...device.MAC) {
	doc := func(n byte) device.MAC { return device.MAC{0x00, 0x00, 0x5e, 0x00, 0x53, n} }
	front, back, desk := doc(0xf0), doc(0xf1), doc(0xf2)
	s.AddNetwork(Network{demoNetwork, "HQ", []string{"HQ-Staff", "HQ-Guest"}})
	s.AddNode(Node{demoNetwork, front, "Front office", true, netip.MustParseAddr("10.255.240.1"), netip.MustParseAddr("192.0.2.240")})
	s.AddNode(Node{demoNetwork, back, "Warehouse", false, netip.Addr{}, netip.Addr{}})
	people := []Client{
		{Name: "reception-ipad", AP: front, SSID: 1, OS: "iOS", OSVersion: "17.1"},
		{Name: "warehouse-scanner", AP: back, SSID: 1, OS: "Android"},
		{Name: "meeting-room-tv", AP: front, SSID: 2},
		{Name: "front-desk-pc", OS: "Windows"},
	}
	ports := []Port{{ID: "1", Uplink: true, VLAN: 1, MACs: []device.MAC{front, back}}}
	for i := range max(len(macs), len(people)) {
		c := Client{Name: "laptop-" + strconv.Itoa(i), AP: front, SSID: 1}
		if i < len(people) {
			c = people[i]
		}
		c.Network, c.MAC = demoNetwork, doc(byte(i))
		if i < len(macs) {
			c.MAC = macs[i]
		}
		if c.SSID == 0 {
			ports = append(ports, Port{ID: strconv.Itoa(len(ports) + 6), VLAN: 10, MACs: []device.MAC{c.MAC}})
		}
		s.AddClient(c)
	}
	s.AddSwitch(Switch{demoNetwork, 7788, desk, "john", ports})
	s.AddForeign(Foreign{demoNetwork, doc(0xe0), "HQ-Staff", "Unknown", "WPA2", "Front office", -43})
}

func (s *Server) page() []standin.Section {
	s.mu.Lock()
	defer s.mu.Unlock()
	nodes := standin.Section{Title: "Access points", Head: []string{"Network", "Name", "Hardware address"}, Empty: "None."}
	for _, n := range s.nodes {
		nodes.Rows = append(nodes.Rows, []string{strconv.Itoa(n.Network), n.Name, n.MAC.String()})
	}
	clients := standin.Section{Title: "Clients", Head: []string{"Network", "Name", "Hardware address", "SSID", "Blocked"}, Empty: "None."}
	for _, c := range s.clients {
		blocked := ""
		if c.Blocked {
			blocked = "blocked"
		}
		clients.Rows = append(clients.Rows, []string{strconv.Itoa(c.Network), c.Name, c.MAC.String(), s.ssid(c.Network, c.SSID), blocked})
	}
	never := standin.Section{Title: "Restarts and resets", Head: []string{"How many"}, Empty: "None came; none must ever come."}
	if n := s.Counted("forbidden"); n > 0 {
		never.Rows = [][]string{{strconv.Itoa(n)}}
	}
	return []standin.Section{clients, nodes, never}
}

func (s *Server) ssid(network, n int) string {
	for _, w := range s.networks {
		if w.ID == network && n > 0 && n <= len(w.SSIDs) {
			return w.SSIDs[n-1]
		}
	}
	return ""
}
