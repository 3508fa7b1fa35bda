package service

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"capagent/enrich/device"
)

// gatewayMACs are the hardware addresses of the default gateways, as far as the kernel
// knows them (proc(5): self/net/route, self/net/arp; a hardened service sees nothing else of /proc).
func gatewayMACs() []device.MAC {
	routes, err := os.ReadFile("/proc/self/net/route")
	if err != nil {
		return nil
	}
	arp, err := os.ReadFile("/proc/self/net/arp")
	if err != nil {
		return nil
	}
	gateways := map[netip.Addr]bool{}
	for line := range strings.Lines(string(routes)) {
		f := strings.Fields(line)
		if len(f) < 3 || f[1] != "00000000" {
			continue
		}
		if n, err := strconv.ParseUint(f[2], 16, 32); err == nil {
			gateways[netip.AddrFrom4([4]byte(binary.NativeEndian.AppendUint32(nil, uint32(n))))] = true
		}
	}
	var macs []device.MAC
	for line := range strings.Lines(string(arp)) {
		f := strings.Fields(line)
		if len(f) < 4 {
			continue
		}
		ip, err := netip.ParseAddr(f[0])
		if mac, bad := net.ParseMAC(f[3]); err == nil && bad == nil && gateways[ip] && len(mac) == len(device.MAC{}) {
			macs = append(macs, device.MAC(mac))
		}
	}
	return macs
}
