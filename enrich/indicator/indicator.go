// Package indicator holds the observables of one capture: what was seen, in
// which frame first, and how often. Parsers put in what they find; everything
// comes from packets, so it is brought into one form here, and bounded.
package indicator

import (
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Type is the kind of an indicator.
type Type uint8

// The types, in the order in which they are listed.
const (
	Address     Type = iota // IPv4 or IPv6, RFC 5952 form
	Host                    // lower case, punycode, no final dot
	URL                     // scheme and host in lower case, the rest as it was sent
	File                    // MD5, SHA-1 or SHA-256 of a whole body, lower-case hex
	Email                   // lower-case domain
	Certificate             // SHA-1 or SHA-256 of the DER form, lower-case hex
	JA3                     // MD5, lower-case hex
	JA4                     // FoxIO's text form
	UserAgent               // as it was sent
	LocalHost               // names of mDNS, LLMNR and NetBIOS: they are true on one link only
	types                   // how many there are
)

var typeNames = [types]string{
	"address", "host", "url", "file", "email", "certificate", "ja3", "ja4", "user_agent", "local_host",
}

func (t Type) String() string { return typeNames[t] }

// Types lists the types by their names.
func Types() []string { return slices.Clone(typeNames[:]) }

// ParseType returns the type of that name.
func ParseType(name string) (Type, bool) {
	i := slices.Index(typeNames[:], strings.ToLower(name))
	return Type(max(i, 0)), i >= 0
}

// At is the moment of a sighting.
type At struct {
	Frame int64 // counted from 1, as Wireshark does
	Time  int64 // nanoseconds since 1970 UTC
}

// Role says where an indicator was seen and in which direction; an indicator
// collects all of its own.
type Role uint64

// The roles.
const (
	Source      Role = 1 << iota // address that sent
	Destination                  // address that was sent to
	DNSQuestion
	DNSAnswer     // owner, target or address in an answer, also in its other sections
	HTTPHost      // Host header, :authority or absolute target
	HTTPRequest   // URL, user agent, or a body that went to the server
	HTTPResponse  // a body that came from the server
	TLSClient     // of a ClientHello, over TCP
	TLSServer     // of the server's flight: certificates
	QUICClient    // of a ClientHello in QUIC Initial packets
	DTLSClient    // of a ClientHello over UDP
	DHCPName      // host or domain name in DHCP
	MDNS          // multicast DNS
	LLMNR         // link-local multicast name resolution
	NetBIOS       // NetBIOS name service
	MailFrom      // envelope or header
	MailTo        // envelope or header
	MailBody      // attachment
	FTPUpload     // body that went to the server
	FTPDownload   // body that came from the server
	SSDPRole      // HTTP over UDP
	MailHost      // HELO, EHLO
	TLSClientCert // a certificate that the client showed
)

var roleNames = []string{
	"source", "destination", "dns.question", "dns.answer", "http.host", "http.request", "http.response",
	"tls.client", "tls.server", "quic.client", "dtls.client", "dhcp", "mdns", "llmnr", "netbios",
	"mail.from", "mail.to", "mail.body", "ftp.upload", "ftp.download", "ssdp", "mail.host", "tls.client_certificate",
}

// Names lists the roles by their names.
func (r Role) Names() []string {
	names := []string{}
	for i, name := range roleNames {
		if r&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return names
}

// Indicator is an observable and what is known of its sightings.
type Indicator struct {
	Type  Type
	Value string
	Role  Role
	// Count is how often it was seen: packets of an address, messages of
	// everything else.
	Count int64
	First At
	Last  int64 // time of the last sighting, nanoseconds since 1970 UTC
}

// FirstTime and LastTime are the times of the first and last sighting, UTC.
func (i Indicator) FirstTime() time.Time { return time.Unix(0, i.First.Time).UTC() }

// LastTime see FirstTime.
func (i Indicator) LastTime() time.Time { return time.Unix(0, i.Last).UTC() }

// Binding is a hardware address that said it has an IP address.
type Binding struct {
	MAC   [6]byte
	IP    netip.Addr
	How   How
	Name  string // that the device gave itself, in DHCP; often ""
	Count int64
	First At
	Last  int64
}

// How a binding was learnt.
type How uint8

// The ways.
const (
	ARP  How = iota // sender of a request or reply
	DHCP            // the server's ACK
	ND              // neighbour or router advertisement, or solicitation, with a link-layer address option
)

func (h How) String() string { return [...]string{"arp", "dhcp", "nd"}[h] }
