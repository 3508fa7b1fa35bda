package npcap

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"unsafe"

	"github.com/google/gopacket/pcap"
	"golang.org/x/sys/windows"
)

// Device is a network adapter that Npcap offers.
type Device struct {
	Name        string // as Windows shows it ("Ethernet 2"), or path where it shows none
	Description string // the adapter's make
	GUID        string // "{...}", "" for a device that is no adapter
	MAC         net.HardwareAddr
	path        string // \Device\NPF_{...}
}

// Ready says what of Npcap is missing: the library, or, where that finds no adapter, the
// driver or the right to it.
func Ready() error {
	all, err := Devices()
	if err == nil && len(all) == 0 {
		err = errors.New("no interface is found by Npcap: its driver does not run (sc query npcap), or this account may not use it")
	}
	return err
}

// Devices lists the adapters.
func Devices() ([]Device, error) {
	if err := pcap.LoadWinPCAP(); err != nil {
		return nil, fmt.Errorf("list interfaces: %w (%w)", ErrMissing, err)
	}
	found, err := pcap.FindAllDevs()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	names := friendlyNames()
	all := make([]Device, 0, len(found))
	for _, f := range found {
		d := Device{Name: f.Name, Description: f.Description, path: f.Name}
		if i := strings.IndexByte(f.Name, '{'); i >= 0 {
			d.GUID = f.Name[i:]
		}
		if a, ok := names[strings.ToUpper(d.GUID)]; ok {
			d.Name, d.MAC = a.name, a.mac
		}
		all = append(all, d)
	}
	return all, nil
}

// find takes the name that Windows shows, the GUID or Npcap's own path.
func find(devices []Device, name string) (Device, error) {
	var known []string
	for _, d := range devices {
		if strings.EqualFold(name, d.Name) || d.GUID != "" && strings.EqualFold(strings.Trim(name, "{}"), strings.Trim(d.GUID, "{}")) || strings.EqualFold(name, d.path) {
			return d, nil
		}
		known = append(known, fmt.Sprintf("%q", d.Name))
	}
	return Device{}, fmt.Errorf("open %q: there is no such interface; there are %s", name, strings.Join(known, ", "))
}

type adapter struct {
	name string
	mac  net.HardwareAddr
}

// friendlyNames maps upper-case GUIDs. Without an answer the map is empty, and
// devices go by Npcap's names.
func friendlyNames() map[string]adapter {
	const skip = windows.GAA_FLAG_SKIP_UNICAST | windows.GAA_FLAG_SKIP_ANYCAST | windows.GAA_FLAG_SKIP_MULTICAST | windows.GAA_FLAG_SKIP_DNS_SERVER
	names := map[string]adapter{}
	size := uint32(16 << 10)
	for range 4 {
		buf := make([]windows.IpAdapterAddresses, size/uint32(unsafe.Sizeof(windows.IpAdapterAddresses{}))+1)
		err := windows.GetAdaptersAddresses(windows.AF_UNSPEC, skip, 0, &buf[0], &size)
		if err == windows.ERROR_BUFFER_OVERFLOW { //nolint:errorlint // an Errno, as it is
			continue // size says how much it takes
		}
		if err != nil {
			return names
		}
		for a := &buf[0]; a != nil; a = a.Next {
			mac := make(net.HardwareAddr, min(a.PhysicalAddressLength, 8))
			copy(mac, a.PhysicalAddress[:])
			guid := strings.ToUpper(windows.BytePtrToString(a.AdapterName))
			names[guid] = adapter{windows.UTF16PtrToString(a.FriendlyName), mac}
		}
		return names
	}
	return names
}
