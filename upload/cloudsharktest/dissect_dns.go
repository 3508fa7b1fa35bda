package cloudsharktest

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// dns leaves the row as it is when data is no DNS message.
func (d *dissection) dns(data []byte) {
	var p dnsmessage.Parser
	h, err := p.Start(data)
	if err != nil {
		return
	}
	kind := "query"
	if h.Response {
		kind = "response"
	}
	info := fmt.Sprintf("%s 0x%04x", kind, h.ID)
	for len(info) <= maxInfo {
		q, err := p.Question()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			break
		} else if err != nil {
			return
		}
		info += fmt.Sprintf(" %s %s", typeName(q.Type), plainName(q.Name))
	}
	if h.Response && h.RCode != 0 {
		info += " " + rcodeName(h.RCode)
	}
	answers, ok := dnsAnswers(&p, maxInfo-len(info))
	if !ok {
		return
	}
	d.Protocol, d.Class, d.Info = "DNS", "dns", info+answers
}

// dnsAnswers tells the answers, until there are more than limit bytes; false when
// they make no sense.
func dnsAnswers(p *dnsmessage.Parser, limit int) (string, bool) {
	info := ""
	if limit <= 0 || p.SkipAllQuestions() != nil {
		return info, limit <= 0
	}
	for len(info) <= limit {
		h, err := p.AnswerHeader()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			break
		} else if err != nil {
			return "", false
		}
		text := ""
		switch h.Type {
		case dnsmessage.TypeA:
			var r dnsmessage.AResource
			r, err = p.AResource()
			text = netip.AddrFrom4(r.A).String()
		case dnsmessage.TypeAAAA:
			var r dnsmessage.AAAAResource
			r, err = p.AAAAResource()
			text = netip.AddrFrom16(r.AAAA).String()
		case dnsmessage.TypeCNAME:
			var r dnsmessage.CNAMEResource
			r, err = p.CNAMEResource()
			text = "CNAME " + plainName(r.CNAME)
		case dnsmessage.TypePTR:
			var r dnsmessage.PTRResource
			r, err = p.PTRResource()
			text = plainName(r.PTR)
		default:
			err = p.SkipAnswer()
		}
		if err != nil {
			return "", false
		}
		if text != "" {
			info += " " + text
		}
	}
	return info, true
}

func plainName(n dnsmessage.Name) string { return strings.TrimSuffix(n.String(), ".") }

// typeName names what is asked for.
func typeName(t dnsmessage.Type) string {
	switch t {
	case 10:
		return "NULL"
	case 256:
		return "URI"
	default:
		return strings.TrimPrefix(t.String(), "Type")
	}
}

// rcodeName names why there is no answer (IANA). What is above 15 is told in an
// additional record, which is not looked for.
func rcodeName(c dnsmessage.RCode) string {
	names := []string{
		"No Error", "Format Error", "Server Failure", "Non-Existent Domain", "Not Implemented", "Query Refused",
		"Name Exists when it should not", "RR Set Exists when it should not", "RR Set that should exist does not",
		"Server Not Authoritative for zone", "Name not contained in zone",
	}
	if int(c) < len(names) {
		return names[c]
	}
	return fmt.Sprintf("code %d", c)
}
