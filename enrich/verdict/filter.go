package verdict

import (
	"fmt"
	"net/netip"
	"strings"

	"capagent/enrich/indicator"
)

// DisplayFilter returns the Wireshark display filter that selects the packets of an
// indicator, by its roles, and in any case its first frame: a file and a certificate
// have no field, a value may lie in the packets in another form, and Wireshark may
// take a protocol on an unusual port for another. Where frames are counted in another
// way, as in a part of a capture, First.Frame is that of the part, or 0.
func DisplayFilter(i indicator.Indicator) string {
	var any []string
	switch i.Type {
	case indicator.Address:
		any = addressFilter(i)
	case indicator.Host, indicator.LocalHost:
		any = hostFilter(i)
	case indicator.URL:
		any = is(i.Value, "http.request.full_uri", "http2.request.full_uri")
	case indicator.UserAgent:
		any = is(i.Value, "http.user_agent", "http2.headers.user_agent")
	case indicator.Email:
		any = emailFilter(i)
	case indicator.JA3:
		any = tlsFilter(i, "handshake.ja3", func(field string) string { return field + " == " + quoted(i.Value) })
	case indicator.JA4:
		any = is(i.Value, "tls.handshake.ja4")
	}
	const headers = indicator.Source | indicator.Destination
	if sure := i.Type == indicator.Address && i.Role&headers != 0; !sure && i.First.Frame > 0 {
		any = append(any, fmt.Sprintf("frame.number == %d", i.First.Frame))
	}
	return strings.Join(any, " or ")
}

// maxFilter is the longest value that is compared as a whole; of a longer one it is
// the beginning, since filters become a part of links.
const maxFilter = 512

// is compares fields with a text.
func is(value string, fields ...string) []string {
	compare := " == "
	if len(value) > maxFilter {
		value, compare = clip(value, maxFilter), " contains "
	}
	any := make([]string, len(fields))
	for i, field := range fields {
		any[i] = field + compare + quoted(value)
	}
	return any
}

// named compares fields with a name, whose case means nothing.
func named(value string, fields ...string) []string {
	lower := make([]string, len(fields))
	for i, field := range fields {
		lower[i] = "lower(" + field + ")"
	}
	return is(value, lower...)
}

func addressFilter(i indicator.Indicator) []string {
	a, err := netip.ParseAddr(i.Value)
	if err != nil {
		return nil
	}
	const headers = indicator.Source | indicator.Destination
	ip, record := "ip.addr", "dns.a"
	if a.Is6() {
		ip, record = "ipv6.addr", "dns.aaaa"
	}
	value := " == " + a.String()
	var any []string
	if i.Role&headers != 0 {
		any = append(any, ip+value)
	}
	if i.Role&(indicator.DNSAnswer|indicator.MDNS|indicator.LLMNR) != 0 {
		any = append(any, record+value)
	}
	if i.Role&indicator.NetBIOS != 0 {
		any = append(any, "nbns.addr"+value)
	}
	if rest := i.Role &^ (headers | indicator.DNSAnswer | indicator.DNSQuestion); rest != 0 { // as a name in a Host header, or in brackets
		literal := i
		literal.Role = rest
		any = append(any, hostFilter(literal)...)
	}
	return any
}

func hostFilter(i indicator.Indicator) (any []string) {
	add := func(roles indicator.Role, fields ...string) {
		if i.Role&roles != 0 {
			any = append(any, named(i.Value, fields...)...)
		}
	}
	const names = indicator.MDNS | indicator.LLMNR
	add(indicator.DNSQuestion|names, "dns.qry.name")
	add(indicator.DNSQuestion|indicator.DNSAnswer|names, "dns.resp.name")
	add(indicator.DNSAnswer|names, "dns.cname", "dns.ns", "dns.ptr.domain_name", "dns.mx.mail_exchange", "dns.srv.target",
		"dns.soa.mname", "dns.dname", "dns.svcb.targetname")
	if i.Role&(indicator.HTTPHost|indicator.HTTPRequest|indicator.SSDPRole) != 0 {
		any = append(any, named(i.Value, "http.host", "http2.headers.authority")...)
		if pattern, ok := withPort(i.Value); ok {
			any = append(any, "http.host matches "+pattern, "http2.headers.authority matches "+pattern)
		}
	}
	any = append(any, tlsFilter(i, "handshake.extensions_server_name", func(field string) string { return named(i.Value, field)[0] })...)
	add(indicator.DHCPName, "dhcp.option.hostname", "dhcp.option.domain_name", "dhcp.fqdn.name", "dhcpv6.client_domain")
	add(indicator.MailHost, "smtp.req.parameter")
	if i.Role&indicator.NetBIOS != 0 { // WORKGROUP<1d> (Local Master Browser)
		any = append(any, "lower(nbns.name) contains "+quoted(i.Value))
	}
	return any
}

// withPort returns the pattern of a name with its port, for names in which nothing
// has a meaning in patterns.
func withPort(name string) (string, bool) {
	name = strings.ToLower(name)
	if len(name) > maxFilter || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-_.:") != "" {
		return "", false
	}
	if strings.Contains(name, ":") {
		name = "[[]" + name + "[]]"
	}
	return `"(?i)^` + strings.ReplaceAll(name, ".", "[.]") + `(:[0-9]+)?$"`, true
}

// tlsFilter asks for a field of a ClientHello, over TCP, QUIC or UDP.
func tlsFilter(i indicator.Indicator, field string, compare func(string) string) (any []string) {
	if i.Role&(indicator.TLSClient|indicator.QUICClient) != 0 {
		any = append(any, compare("tls."+field))
	}
	if i.Role&indicator.DTLSClient != 0 {
		any = append(any, compare("dtls."+field))
	}
	return any
}

func emailFilter(i indicator.Indicator) (any []string) {
	for _, field := range []string{"smtp.req.parameter", "imf.from", "imf.to", "imf.cc", "imf.address"} {
		any = append(any, "lower("+field+") contains "+quoted(clip(strings.ToLower(i.Value), maxFilter)))
	}
	return any
}

// quoted returns a text as display filters have it. Nothing in it ends the text
// early or means something else (wireshark-filter(4); macros are put in first of all).
func quoted(text string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range []byte(text) {
		switch {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c == 0x7f || c == '$': // ${name} would be a macro, also within a text
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// Link returns where the packets of a filter are seen in a session.
func Link(sessionURL, filter string) string {
	const digits = "0123456789ABCDEF"
	b := append(make([]byte, 0, len(sessionURL)+8+3*len(filter)), sessionURL...)
	b = append(b, "?filter="...)
	for _, c := range []byte(filter) {
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~", c) >= 0 {
			b = append(b, c) // unreserved (RFC 3986, 2.3)
		} else {
			b = append(b, '%', digits[c>>4], digits[c&15])
		}
	}
	return string(b)
}
