// Package device holds what is known of the machines of a capture beyond what their
// packets say: the name that a network's controller has for a hardware address, the
// lab that a host name belongs to. A source is whatever can be asked: CloudTrax,
// CloudShare.
package device

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"capagent/enrich/indicator"
)

// MAC is a hardware address.
type MAC [6]byte

// ParseMAC reads "00:11:22:aa:bb:cc", with "-" instead of ":", or "0011.22aa.bbcc", in any
// case.
func ParseMAC(s string) (m MAC, ok bool) {
	if len(s) > 17 {
		return m, false
	}
	n := 0
	for _, r := range s {
		digit := strings.IndexRune("0123456789abcdef", unicode.ToLower(r))
		switch {
		case digit >= 0 && n < 12:
			m[n/2] = m[n/2]<<4 | byte(digit)
			n++
		case r != ':' && r != '-' && r != '.':
			return MAC{}, false
		}
	}
	return m, n == 12
}

func (m MAC) String() string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}

// MarshalText gives the form of String.
func (m MAC) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText takes what ParseMAC does.
func (m *MAC) UnmarshalText(text []byte) error {
	var ok bool
	if *m, ok = ParseMAC(string(text)); !ok {
		return fmt.Errorf("%q is not a hardware address", text)
	}
	return nil
}

// Multicast says that it names a group, broadcast among them.
func (m MAC) Multicast() bool { return m[0]&1 != 0 }

// Random says that it is administered locally: phones make such ones up, one for each
// network or day (IEEE 802, 8.2.2).
func (m MAC) Random() bool { return m[0]&2 != 0 && !m.Multicast() }

// MaxBehind is how many addresses behind one hardware address are counted. What sends
// for more than this is a router.
const MaxBehind = 20

// Seen is a hardware address that sent IP packets, or said that it has an address.
type Seen struct {
	MAC MAC
	// Behind is how many IP addresses it sent for: MaxBehind+1 stands for more.
	Behind int
	// IPs are those, at most MaxBehind.
	IPs   []netip.Addr
	First indicator.At
}

// Answer is an address that a name had, as a DNS server said in the capture.
type Answer struct {
	Host string // in the form that indicators have
	IP   netip.Addr
}

// Capture is what a capture tells of machines.
type Capture struct {
	First, Last time.Time // of its packets
	Seen        []Seen
	Bindings    []indicator.Binding
	Answers     []Answer
	Hosts       []string     // that were asked for, or spoken to
	Addresses   []netip.Addr // of packets
}

// Confidence is how sure it is that a device is the one that was seen.
type Confidence uint8

// From nothing to be said to sure.
const (
	None Confidence = iota
	Low
	Medium
	High
)

func (c Confidence) String() string {
	return [...]string{"none", "low", "medium", "high"}[min(c, High)]
}

// MarshalText gives the form of String.
func (c Confidence) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads it back.
func (c *Confidence) UnmarshalText(text []byte) error {
	for *c = None; *c <= High; *c++ {
		if c.String() == string(text) {
			return nil
		}
	}
	return fmt.Errorf("%q is not a confidence", text)
}

// Device is a machine that a source knows. All its text is Clean.
type Device struct {
	Source string `json:"source"`       // "cloudtrax", "cloudshare"
	Kind   string `json:"kind"`         // "client", "access point", "switch", "gateway", "lab machine"
	Name   string `json:"name"`         // what people call it
	ID     string `json:"id,omitempty"` // of what it belongs to, as the source has it: a lab
	// Details are what belongs to the name, most telling first: "AP Front office",
	// "SSID HQ-Staff".
	Details []string `json:"details,omitempty"`
	// Limits are what can't be known, in words: "its hardware address is random".
	Limits     []string     `json:"limits,omitempty"`
	Confidence Confidence   `json:"confidence"`
	MAC        *MAC         `json:"mac,omitempty"`
	IPs        []netip.Addr `json:"ips,omitempty"`
	Hosts      []string     `json:"hosts,omitempty"`
	// Tags are what the session may be tagged with, besides the name.
	Tags []string `json:"tags,omitempty"`
	Link string   `json:"link,omitempty"` // where a person reads more; https
	// Self says that it is the machine that the agent runs on.
	Self bool `json:"self,omitempty"`
}

// Bounds of a Device.
const (
	MaxName    = 64 // characters of a name, a detail, a tag, a limit
	MaxDetails = 8
	MaxDevices = 1000 // of a capture
)

// Clean makes text from outside fit for a name: one line, nothing that does not print
// or changes the direction of what does, MaxName characters.
func Clean(s string) string {
	var out strings.Builder
	blank, n := false, 0
	for _, r := range s {
		switch {
		case unicode.IsSpace(r) || r == utf8.RuneError || !unicode.IsPrint(r):
			blank = n > 0
			continue
		case n >= MaxName-2:
			return out.String() + "…"
		}
		if blank {
			out.WriteByte(' ')
			blank = false
			n++
		}
		out.WriteRune(r)
		n++
	}
	return out.String()
}

// Label is the device in a few words: "reception-ipad · AP Front office · SSID HQ-Staff".
func (d Device) Label() string { return strings.Join(append([]string{d.Name}, d.Details...), " · ") }

// Summary tells of devices in at most size bytes, the surest first, one a line. Hardware
// addresses are told as mac says.
func Summary(list []Device, size int, mac func(MAC) string) string {
	var out strings.Builder
	for n, d := range Sort(list) {
		line := d.Label()
		if d.MAC != nil {
			line += ", " + mac(*d.MAC)
		}
		for _, ip := range d.IPs[:min(len(d.IPs), 3)] {
			line += ", " + ip.String()
		}
		line += " (" + d.Source + ", " + d.Confidence.String()
		for _, l := range d.Limits {
			line += "; " + l
		}
		line += ")\n"
		more := fmt.Sprintf("and %d more\n", len(list)-n)
		if out.Len()+len(line)+len(more) > size {
			if out.Len()+len(more) <= size {
				out.WriteString(more)
			}
			break
		}
		out.WriteString(line)
	}
	return out.String()
}

// Tags returns at most n tags of devices that are sure enough.
func Tags(list []Device, n int) []string {
	var tags []string
	for _, d := range Sort(list) {
		if d.Confidence < Medium {
			continue
		}
		for _, tag := range append([]string{d.Name}, d.Tags...) {
			if tag = strings.ReplaceAll(tag, ",", " "); tag != "" && len(tags) < n && !slices.Contains(tags, tag) {
				tags = append(tags, tag)
			}
		}
	}
	return tags
}

// Sort returns devices with the surest first, and clients before what carries them.
func Sort(list []Device) []Device {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b Device) int {
		return cmp.Or(cmp.Compare(b.Confidence, a.Confidence), cmp.Compare(rank(a.Kind), rank(b.Kind)), strings.Compare(a.Name, b.Name))
	})
	return list
}

func rank(kind string) int {
	return slices.Index([]string{"lab machine", "client", "gateway", "access point", "switch"}, kind) & 0xff
}

// Of returns the devices that an indicator belongs to, the surest first.
func Of(list []Device, i indicator.Indicator) []Device {
	ip, _ := netip.ParseAddr(i.Value)
	var out []Device
	for _, d := range Sort(list) {
		if i.Type == indicator.Address && slices.Contains(d.IPs, ip) || i.Type == indicator.Host && slices.Contains(d.Hosts, i.Value) {
			out = append(out, d)
		}
	}
	return out
}

// Decode reads what json.Marshal made of devices.
func Decode(data []byte) ([]Device, error) {
	if len(data) == 0 {
		return nil, nil
	}
	var list []Device
	err := json.Unmarshal(data, &list)
	return list, err
}
