package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"

	"capagent/enrich"
	"capagent/enrich/indicator"
	"capagent/internal/pcapio"
)

// difference is a value that tshark found and we did not, or in another frame.
type difference struct {
	path, field, value string
	theirs, ours       int64 // frames; ours is 0 where it was not found
}

// report is what became of one capture.
type report struct {
	path   string
	err    error
	counts map[string]*count
	list   []difference
	limits map[indicator.Limit]int64
	failed map[string]int64
}

// count is of one field.
type count struct{ values, found, sameFrame int }

// compare asks both and puts their answers side by side; known is about captures
// of which tshark's answer is remembered.
func compare(ctx context.Context, cache, path string, known bool) (r report, ok bool) {
	r = report{path: path, counts: map[string]*count{}}
	theirs, err := ask(ctx, cache, path, known)
	if err != nil || theirs.Values == nil {
		r.err = err
		return r, err != nil
	}
	ours, err := analyse(path)
	if err != nil {
		r.err = err
		return r, true
	}
	r.limits, r.failed = ours.Limits, ours.Failed
	found := map[string]int64{}
	for _, i := range ours.Indicators {
		key := i.Type.String() + " " + i.Value
		found[key] = i.First.Frame
	}
	for _, l := range ours.Summary.Largest {
		found["communityid "+l.CommunityID] = l.FirstFrame
	}
	for field, values := range theirs.Values {
		c := &count{}
		r.counts[field] = c
		for value, frame := range keys(field, values) {
			if field == "communityid" && len(ours.Summary.Largest) == 10 {
				continue // not all are listed
			}
			c.values++
			at, ok := found[value]
			if local, known := found["local_"+value]; known && (!ok || local < at) {
				at, ok = local, true // tshark has one name for DNS and its local kin
			}
			switch {
			case !ok:
				r.list = append(r.list, difference{path, field, value, frame, 0})
				continue
			case frame != 0 && at > frame, frame != 0 && at < frame && alone(field):
				r.list = append(r.list, difference{path, field, value, frame, at})
			default:
				c.sameFrame++
			}
			c.found++
		}
	}
	return r, true
}

// alone says that what a field holds is found in no other field, so that frames
// can be compared both ways.
func alone(field string) bool {
	switch field {
	case "http.request.full_uri", "tls.handshake.ja3", "http.user_agent":
		return true
	}
	return false
}

func analyse(path string) (enrich.Result, error) {
	f, err := os.Open(path)
	if err != nil {
		return enrich.Result{}, err
	}
	defer func() { _ = f.Close() }()
	a := enrich.New()
	content, err := pcapio.Unwrap(f, pcapio.DefaultBudget())
	if err != nil {
		return a.Close(), nil //nolint:nilerr // tshark does not read it either
	}
	defer func() { _ = content.Close() }()
	r, err := pcapio.NewReader(content)
	if err != nil {
		return a.Close(), nil //nolint:nilerr // likewise
	}
	var p pcapio.Packet
	for r.Next(&p) == nil {
		a.Packet(&p)
	}
	return a.Close(), nil
}

// keys turns tshark's values of a field into ours: type, blank, value.
func keys(field string, values map[string]int64) map[string]int64 {
	s := indicator.New()
	for value, frame := range values {
		put(s, field, value, indicator.At{Frame: frame})
	}
	found := map[string]int64{}
	for _, i := range s.List() {
		found[i.Type.String()+" "+i.Value] = i.First.Frame
	}
	switch field {
	case "export.http", "export.ftp-data":
		for v := range values {
			found["file "+v] = 0
		}
	case "communityid":
		for v, frame := range values {
			found["communityid "+v] = frame
		}
	case "tls.handshake.ja3":
		for v, frame := range values {
			found["ja3 "+v] = frame
		}
	case "tls.handshake.certificate":
		for v, frame := range values {
			if der, err := hex.DecodeString(strings.ReplaceAll(v, ":", "")); err == nil {
				sum := sha256.Sum256(der)
				found["certificate "+hex.EncodeToString(sum[:])] = frame
			}
		}
	}
	return found
}

// put brings a value of tshark's into our form.
func put(s *indicator.Set, field, value string, at indicator.At) {
	if strings.HasPrefix(field, "dns.") && (strings.ContainsAny(value, "\\<>") || strings.IndexFunc(value, func(r rune) bool { return r > 126 }) >= 0) {
		return // of bytes that no name should have tshark shows something else
	}
	text := []byte(value)
	switch field {
	case "ip.src", "ip.dst", "ipv6.src", "ipv6.dst", "dns.a", "dns.aaaa":
		s.Host(text, 1, at)
	case "dns.qry.name", "dns.resp.name", "dns.cname", "dns.ns", "dns.ptr.domain_name", "dns.mx.mail_exchange",
		"dns.srv.target", "dns.soa.mname":
		if value != "<Root>" {
			s.Host(text, 1, at)
		}
	case "tls.handshake.extensions_server_name", "dtls.handshake.extensions_server_name", "dhcp.option.hostname", "dhcp.fqdn.name":
		s.Host(text, 1, at)
	case "nbns.name":
		if i := strings.LastIndexByte(value, '<'); i > 0 && !strings.HasPrefix(value, "*") && strings.Count(value, "<") == 1 {
			s.LocalHost([]byte(strings.TrimRight(value[:i], " ")), 1, at)
		}
	case "http.host", "http2.headers.authority":
		host := value
		if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.Contains(host[i:], "]") {
			host = host[:i]
		}
		s.Host([]byte(strings.TrimSpace(host)), 1, at)
	case "http.request.full_uri", "http2.request.full_uri":
		s.URL(text, 1, at)
	case "http.user_agent", "http2.headers.user_agent":
		s.UserAgent(text, 1, at)
	case "smtp.req.parameter":
		if _, rest, ok := strings.Cut(value, "<"); ok {
			address, _, _ := strings.Cut(rest, ">")
			s.Email([]byte(address), 1, at)
		}
	case "imf.from", "imf.to", "imf.cc":
		for part := range strings.SplitSeq(value, ",") {
			if _, rest, ok := strings.Cut(part, "<"); ok {
				part, _, _ = strings.Cut(rest, ">")
			}
			s.Email([]byte(strings.TrimSpace(part)), 1, at)
		}
	}
}

// table adds reports up.
type table struct {
	list int
	only string

	mu     sync.Mutex
	files  int
	errs   []string
	counts map[string]*count
	diffs  map[string][]difference
	limits map[indicator.Limit]int64
	failed map[string]int64
}

func newTable(list int, only string) *table {
	return &table{
		list: list, only: only, counts: map[string]*count{}, diffs: map[string][]difference{},
		limits: map[indicator.Limit]int64{}, failed: map[string]int64{},
	}
}

func (t *table) add(r report) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.files++
	if r.err != nil {
		t.errs = append(t.errs, r.path+": "+r.err.Error())
	}
	for field, c := range r.counts {
		if t.counts[field] == nil {
			t.counts[field] = &count{}
		}
		t.counts[field].values += c.values
		t.counts[field].found += c.found
		t.counts[field].sameFrame += c.sameFrame
	}
	for _, d := range r.list {
		t.diffs[d.field] = append(t.diffs[d.field], d)
	}
	for k, n := range r.limits {
		t.limits[k] += n
	}
	for k, n := range r.failed {
		t.failed[k] += n
	}
}

func (t *table) print(out io.Writer) error {
	fmt.Fprintf(out, "%d captures\n\n| field of tshark | values | found | same first frame |\n|---|---|---|---|\n", t.files)
	names := slices.Sorted(maps.Keys(t.counts))
	for _, f := range names {
		c := t.counts[f]
		fmt.Fprintf(out, "| %s | %d | %d | %d |\n", f, c.values, c.found, c.sameFrame)
	}
	fmt.Fprintf(out, "\nlimits: %v\nfailed parsers: %v\n", t.limits, t.failed)
	for _, e := range t.errs {
		fmt.Fprintln(out, "error:", e)
	}
	for _, f := range names {
		diffs := t.diffs[f]
		if len(diffs) == 0 || t.only != "" && t.only != f {
			continue
		}
		slices.SortFunc(diffs, func(a, b difference) int {
			return cmp.Or(cmp.Compare(a.path, b.path), cmp.Compare(a.theirs, b.theirs))
		})
		fmt.Fprintf(out, "\n%s:\n", f)
		for i, d := range diffs {
			if i == t.list {
				fmt.Fprintf(out, "  and %d more\n", len(diffs)-i)
				break
			}
			fmt.Fprintf(out, "  %s frame %d, ours %d: %.100q\n", d.path, d.theirs, d.ours, d.value)
		}
	}
	_, err := fmt.Fprintln(out)
	return err
}
