package filter

import (
	"bufio"
	"cmp"
	"context"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// resolver finds what names stand for, in the system's files and, for hosts, in
// what else the system asks (DNS). Where a file is missing, as on Windows and in
// small containers, the commonest names are known all the same.
type resolver struct{ ctx context.Context }

const (
	maxNameFile = 4 << 20 // bytes read of one of the system's files
	maxAddrs    = 100     // addresses of one kind that a name may have
	hostTimeout = 30 * time.Second
)

// etc returns the fields of the lines of one of the system's files, without
// comments; ok is false if there is none.
func etc(name string) (lines [][]string, ok bool) {
	f, err := os.Open(etcPath(name))
	if err != nil {
		return nil, false
	}
	defer f.Close()
	s := bufio.NewScanner(io.LimitReader(f, maxNameFile))
	for s.Scan() {
		line, _, _ := strings.Cut(s.Text(), "#")
		if fields := strings.Fields(line); len(fields) > 1 {
			lines = append(lines, fields)
		}
	}
	return lines, true
}

// isNamed says whether a line, of a name, what it stands for, and more names,
// is of a name.
func isNamed(line []string, name string, same func(a, b string) bool) bool {
	if same(line[0], name) {
		return true
	}
	return slices.ContainsFunc(line[2:], func(alias string) bool { return same(alias, name) })
}

func isSame(a, b string) bool { return a == b }

// host returns a host's addresses, sorted.
func (r *resolver) host(name string) ([]netip.Addr, error) {
	ctx, stop := context.WithTimeout(r.ctx, hostTimeout)
	defer stop()
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
	if err != nil {
		return nil, err
	}
	for i, a := range addrs {
		addrs[i] = a.Unmap().WithZone("")
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	addrs = slices.Compact(addrs)
	if len(addrs) > maxAddrs {
		return nil, errTooMany
	}
	return addrs, nil
}

type constError string

func (e constError) Error() string { return string(e) }

const errTooMany = constError("it has too many addresses")

// mac returns the address that /etc/ethers has for a name.
func (r *resolver) mac(name string) (mac [6]byte, ok bool) {
	lines, _ := etc("ethers")
	for _, l := range lines {
		if strings.EqualFold(l[1], name) && matchMAC(l[0]) == len(l[0]) {
			return parseMAC(l[0]), true
		}
	}
	return mac, false
}

// network returns the number that /etc/networks has for a name.
func (r *resolver) network(name string) (uint32, bool) {
	lines, ok := etc("networks")
	if !ok {
		lines = [][]string{{"default", "0.0.0.0"}, {"loopback", "127.0.0.0"}, {"link-local", "169.254.0.0"}}
	}
	for _, l := range lines {
		if !isNamed(l, name, strings.EqualFold) {
			continue
		}
		addr, bits, ok := parseDotted(l[1])
		if !ok || addr == 0 {
			return 0, false
		}
		return addr << (32 - min(bits, 32)), true
	}
	return 0, false
}

// protocol returns the number of a protocol above IP.
func (r *resolver) protocol(name string) (uint32, bool) {
	lines, ok := etc("protocols")
	if !ok {
		v, ok := commonProtocols[name]
		return v, ok
	}
	for _, l := range lines {
		if isNamed(l, name, isSame) {
			v, err := strconv.ParseUint(l[1], 10, 8)
			return uint32(v), err == nil
		}
	}
	return 0, false
}

// port returns the number of a service's port, and for which protocol it is:
// anyTransport if TCP and UDP have the same.
func (r *resolver) port(name string) (port uint32, p int, ok bool) {
	tcp, hasTCP := r.service(name, "tcp")
	udp, hasUDP := r.service(name, "udp")
	switch {
	case hasTCP && hasUDP && tcp == udp:
		return tcp, anyTransport, true
	case hasTCP:
		return tcp, ipTCP, true
	case hasUDP:
		return udp, ipUDP, true
	}
	return 0, 0, false
}

func (r *resolver) service(name, transport string) (uint32, bool) {
	lines, ok := etc("services")
	if !ok {
		s, ok := commonServices[name]
		if !ok || !strings.Contains(cmp.Or(s.only, "tcp udp"), transport) {
			return 0, false
		}
		return s.port, true
	}
	for _, l := range lines {
		number, t, _ := strings.Cut(l[1], "/")
		if t == transport && isNamed(l, name, isSame) {
			v, err := strconv.ParseUint(number, 10, 16)
			return uint32(v), err == nil
		}
	}
	return 0, false
}

// commonProtocols are used where there is no /etc/protocols.
var commonProtocols = map[string]uint32{
	"ip": 0, "icmp": 1, "igmp": 2, "ggp": 3, "ipencap": 4, "st": 5, "tcp": 6, "egp": 8, "igp": 9, "pup": 12,
	"udp": 17, "hmp": 20, "xns-idp": 22, "rdp": 27, "dccp": 33, "xtp": 36, "ddp": 37, "ipv6": 41,
	"ipv6-route": 43, "ipv6-frag": 44, "rsvp": 46, "gre": 47, "esp": 50, "ah": 51, "skip": 57, "ipv6-icmp": 58,
	"ipv6-nonxt": 59, "ipv6-opts": 60, "eigrp": 88, "ospf": 89, "ipip": 94, "etherip": 97, "encap": 98,
	"pim": 103, "ipcomp": 108, "vrrp": 112, "l2tp": 115, "isis": 124, "sctp": 132, "fc": 133,
	"udplite": 136, "mpls-in-ip": 137,
}

// commonServices are used where there is no /etc/services. Those without "only"
// are for TCP and UDP.
var commonServices = map[string]struct {
	port uint32
	only string
}{
	"echo": {7, ""}, "discard": {9, ""}, "daytime": {13, "tcp"}, "ftp-data": {20, "tcp"}, "ftp": {21, "tcp"},
	"ssh": {22, "tcp"}, "telnet": {23, "tcp"}, "smtp": {25, "tcp"}, "mail": {25, "tcp"}, "time": {37, ""},
	"tacacs": {49, ""}, "domain": {53, ""}, "bootps": {67, "udp"}, "bootpc": {68, "udp"}, "tftp": {69, "udp"},
	"gopher": {70, "tcp"}, "finger": {79, "tcp"}, "http": {80, "tcp"}, "www": {80, "tcp"}, "kerberos": {88, ""},
	"pop3": {110, "tcp"}, "sunrpc": {111, ""}, "portmapper": {111, ""}, "auth": {113, "tcp"}, "nntp": {119, "tcp"},
	"ntp": {123, "udp"}, "epmap": {135, "tcp"}, "netbios-ns": {137, "udp"}, "netbios-dgm": {138, "udp"},
	"netbios-ssn": {139, "tcp"}, "imap2": {143, "tcp"}, "imap": {143, "tcp"}, "snmp": {161, ""},
	"snmp-trap": {162, ""}, "snmptrap": {162, ""}, "bgp": {179, "tcp"}, "irc": {194, ""}, "ldap": {389, ""},
	"https": {443, ""}, "microsoft-ds": {445, ""}, "isakmp": {500, "udp"}, "syslog": {514, "udp"},
	"shell": {514, "tcp"}, "login": {513, "tcp"}, "exec": {512, "tcp"}, "printer": {515, "tcp"},
	"submission": {587, "tcp"}, "ldaps": {636, ""}, "imaps": {993, "tcp"}, "pop3s": {995, "tcp"},
	"socks": {1080, "tcp"}, "openvpn": {1194, ""}, "ms-sql-s": {1433, "tcp"}, "radius": {1812, ""},
	"nfs": {2049, ""}, "mysql": {3306, "tcp"}, "ms-wbt-server": {3389, "tcp"}, "ipsec-nat-t": {4500, "udp"},
	"sip": {5060, ""}, "sip-tls": {5061, ""}, "mdns": {5353, "udp"}, "postgresql": {5432, "tcp"},
	"x11": {6000, "tcp"}, "http-alt": {8080, ""},
}
