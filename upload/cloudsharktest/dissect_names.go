package cloudsharktest

import (
	"fmt"
	"strconv"
)

// protocolName names what an IP header announces (IANA).
func protocolName(p byte) string {
	for _, known := range []struct {
		number byte
		name   string
	}{
		{0, "IPv6HopByHop"},
		{1, "ICMPv4"},
		{2, "IGMP"},
		{4, "IPv4"},
		{6, "TCP"},
		{17, "UDP"},
		{41, "IPv6"},
		{43, "IPv6Routing"},
		{44, "IPv6Fragment"},
		{47, "GRE"},
		{50, "IPSecESP"},
		{51, "IPSecAH"},
		{58, "ICMPv6"},
		{59, "NoNextHeader"},
		{60, "IPv6Destination"},
		{89, "OSPF"},
		{94, "IPv4"},
		{97, "EtherIP"},
		{112, "VRRP"},
		{132, "SCTP"},
		{136, "UDPLite"},
		{137, "MPLS"},
	} {
		if known.number == p {
			return known.name
		}
	}
	return strconv.Itoa(int(p))
}

// messages are the types of a protocol's messages, and the codes of a type from 0 on.
type messages map[byte]struct {
	name  string
	codes []string
}

func (m messages) text(kind, code byte) string {
	known, ok := m[kind]
	switch {
	case !ok:
		return fmt.Sprintf("%d(%d)", kind, code)
	case int(code) < len(known.codes):
		return fmt.Sprintf("%s(%s)", known.name, known.codes[code])
	case code == 0:
		return known.name
	default:
		return fmt.Sprintf("%s(Code: %d)", known.name, code)
	}
}

var icmpNames = messages{
	0: {"EchoReply", nil},
	3: {"DestinationUnreachable", []string{
		"Net", "Host", "Protocol", "Port", "FragmentationNeeded", "SourceRoutingFailed", "NetUnknown", "HostUnknown", "SourceIsolated",
		"NetAdminProhibited", "HostAdminProhibited", "NetTOS", "HostTOS", "CommAdminProhibited", "HostPrecedence", "PrecedenceCutoff",
	}},
	4:  {"SourceQuench", nil},
	5:  {"Redirect", []string{"Net", "Host", "TOS+Net", "TOS+Host"}},
	8:  {"EchoRequest", nil},
	9:  {"RouterAdvertisement", nil},
	10: {"RouterSolicitation", nil},
	11: {"TimeExceeded", []string{"TTLExceeded", "FragmentReassemblyTimeExceeded"}},
	12: {"ParameterProblem", []string{"PointerIndicatesError", "MissingOption", "BadLength"}},
	13: {"TimestampRequest", nil},
	14: {"TimestampReply", nil},
	15: {"InfoRequest", nil},
	16: {"InfoReply", nil},
	17: {"AddressMaskRequest", nil},
	18: {"AddressMaskReply", nil},
}

var icmpv6Names = messages{
	1: {"DestinationUnreachable", []string{
		"NoRouteToDst", "AdminProhibited", "BeyondScopeOfSrc", "AddressUnreachable", "PortUnreachable", "SrcAddressFailedPolicy", "RejectRouteToDst",
	}},
	2:   {"PacketTooBig", nil},
	3:   {"TimeExceeded", []string{"HopLimitExceeded", "FragmentReassemblyTimeExceeded"}},
	4:   {"ParameterProblem", []string{"ErroneousHeaderField", "UnrecognizedNextHeader", "UnrecognizedIPv6Option"}},
	128: {"EchoRequest", nil},
	129: {"EchoReply", nil},
	133: {"RouterSolicitation", nil},
	134: {"RouterAdvertisement", nil},
	135: {"NeighborSolicitation", nil},
	136: {"NeighborAdvertisement", nil},
	137: {"Redirect", nil},
}
