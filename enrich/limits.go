package enrich

import "capagent/enrich/indicator"

// explained are the limits in words: what is missing once one was met. They are
// told by their names, which are part of --json.
var explained = map[indicator.Limit]string{
	"indicators":          "more different indicators than are kept; those met later are missing",
	"long_value":          "a value was too long to be an indicator",
	"hardware_addresses":  "more hardware addresses than are kept",
	"bindings":            "more pairs of hardware and IP addresses than are kept",
	"nested_headers":      "headers within headers, deeper than is looked",
	"fragments":           "the fragments of an IP datagram were given up",
	"flows":               "more connections at once than are followed; the one that was silent for longest was taken as ended",
	"tcp_out_of_order":    "TCP bytes that waited for missing ones before them were taken as they are",
	"tcp_memory":          "no memory was left for TCP segments out of order",
	"dns_names":           "a DNS message whose compression makes it many times longer than it is",
	"dns_stream":          "DNS over TCP that could not be followed",
	"dhcp_names":          "more DHCP clients at once than names are remembered for",
	"http_head":           "the head of an HTTP message was too long",
	"http_fields":         "too many hosts or user agents in one HTTP request",
	"http_pipeline":       "too many HTTP requests without a response",
	"http_unsynchronised": "bytes on an HTTP connection that are no message, or a gap in one",
	"http_decoders":       "too many compressed HTTP bodies at once",
	"http_decoded":        "compressed HTTP bodies come to more than is decoded of one capture",
	"http_decoded_body":   "a compressed HTTP body decodes to more than its length allows",
	"http_forms":          "too many HTTP forms at once",
	"http_form_header":    "the header of a part of an HTTP form was too long",
	"http2_gap":           "bytes of an HTTP/2 connection are missing; the rest of that side was not looked at",
	"http2_headers":       "a block of HTTP/2 headers was too long",
	"http2_streams":       "too many HTTP/2 streams at once",
	"http2_broken":        "HTTP/2 that breaks its rules",
	"tls_message":         "a TLS hello or list of certificates was too long",
	"dtls_hellos":         "more DTLS hellos in pieces than are kept",
	"quic_connections":    "more QUIC connections at their beginning than are kept",
	"quic_hello":          "a QUIC hello was too long or in too many pieces",
	"quic_keys":           "so many QUIC packets could not be opened that others were passed over",
	"mail_line":           "a mail command was too long",
	"mail_header":         "more addresses in a mail's header than are taken",
	"mail_mime":           "parts of a mail nested deeper than is followed",
	"mail_memory":         "no memory was left for a mail's parts",
	"ftp_line":            "an FTP command was too long",
	"ftp_memory":          "no memory was left for an FTP transfer",
	"ftp_transfers":       "more FTP transfers were announced than are waited for",
}

// Explain returns what a limit means, in words; "" for a name that is none.
func Explain(l indicator.Limit) string { return explained[l] }
