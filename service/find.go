package service

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"

	"capagent/enrich/indicator"
	"capagent/internal/ledger"
)

// HitView is a capture that held an indicator, as JSON shows it. What is not known is null.
type HitView struct {
	Indicator  string    `json:"indicator"`
	Type       string    `json:"type"`
	Capture    int64     `json:"capture"`
	Name       *string   `json:"name"`
	NameBase64 string    `json:"name_base64,omitempty"` // the exact name where that is not UTF-8
	Path       *string   `json:"path"`
	PathBase64 string    `json:"path_base64,omitempty"` // likewise
	SessionID  *string   `json:"session_id"`
	SessionURL *string   `json:"session_url"`
	FirstFrame int64     `json:"first_frame"`
	Count      int64     `json:"count"`
	First      time.Time `json:"first"`
	Last       time.Time `json:"last"`
	Roles      []string  `json:"roles"`
}

// FindResult says how much was found.
type FindResult struct {
	Total int64 `json:"total"` // captures that held it, or with More so many at least
	More  bool  `json:"more"`
}

// The widest prefixes of addresses that are looked for: what lies in a wider one is
// most of a store.
const (
	widest4 = 8
	widest6 = 16
)

// ParseWanted returns what a person looks for: an indicator in any of its forms, a
// prefix of addresses, or *.domain for what is below a domain. typ is the name of its
// type, or "" for every type that it may have. The error is for the user.
func ParseWanted(text, typ string) ([]ledger.Wanted, error) {
	given := text
	text = indicator.Refang(text)
	var types []indicator.Type
	if typ != "" {
		t, ok := indicator.ParseType(typ)
		if !ok {
			return nil, fmt.Errorf("no such type; the types are %s", strings.Join(indicator.Types(), ", "))
		}
		types = []indicator.Type{t}
	}
	if domain, ok := strings.CutPrefix(text, "*."); ok {
		return belowDomain(domain, types)
	}
	if strings.Contains(text, "*") && (types == nil || types[0] == indicator.Host || types[0] == indicator.LocalHost) && !strings.ContainsAny(text, " /@") {
		return nil, fmt.Errorf("a * stands for names below a domain only, at the beginning: *.example.com")
	}
	if prefix, ok := indicator.CanonicalPrefix(text); ok && (types == nil || types[0] == indicator.Address) {
		return withinPrefix(prefix)
	}
	if types == nil {
		types = indicator.Guess(text)
	}
	var wanted []ledger.Wanted
	for _, t := range types {
		from := text
		if t == indicator.UserAgent {
			from = given
		}
		if value, ok := indicator.Canonical(t, from); ok {
			wanted = append(wanted, ledger.Wanted{Type: t.String(), Value: value})
		}
	}
	switch {
	case len(wanted) > 0:
		return wanted, nil
	case typ != "":
		return nil, fmt.Errorf("it can't be an indicator of the type %s", types[0])
	}
	return nil, fmt.Errorf("it is no indicator: neither address, host, URL, digest, e-mail address, fingerprint nor user agent")
}

func belowDomain(domain string, types []indicator.Type) ([]ledger.Wanted, error) {
	if types == nil {
		types = []indicator.Type{indicator.Host, indicator.LocalHost}
	}
	var wanted []ledger.Wanted
	for _, t := range types {
		value, ok := indicator.Canonical(t, domain)
		if !ok || t != indicator.Host && t != indicator.LocalHost || strings.Contains(value, "*") {
			return nil, fmt.Errorf("a * stands for names below a domain only, at the beginning: *.example.com")
		}
		wanted = append(wanted, ledger.Wanted{Type: t.String(), Value: value, Below: true})
	}
	return wanted, nil
}

func withinPrefix(p netip.Prefix) ([]ledger.Wanted, error) {
	switch {
	case p.IsSingleIP():
		return []ledger.Wanted{{Type: indicator.Address.String(), Value: p.Addr().String()}}, nil
	case p.Addr().Is4() && p.Bits() < widest4 || p.Addr().Is6() && p.Bits() < widest6:
		return nil, fmt.Errorf("the prefix is too wide: at least /%d for IPv4 and /%d for IPv6", widest4, widest6)
	}
	return []ledger.Wanted{{Type: indicator.Address.String(), Value: p.String(), Below: true}}, nil
}

// Find tells each which captures held what is looked for, what was recorded last
// first.
func Find(ctx context.Context, l *ledger.Ledger, search ledger.Search, each func(HitView) error) (FindResult, error) {
	hits, err := l.Find(ctx, search)
	if err != nil {
		return FindResult{}, err
	}
	const page = 500
	for from := 0; from < len(hits.Hits); from += page {
		some := hits.Hits[from:min(from+page, len(hits.Hits))]
		ids := make([]int64, len(some))
		for i, h := range some {
			ids[i] = h.Capture
		}
		captures := map[int64]ledger.Capture{}
		for c, err := range l.List(ctx, ledger.Filter{IDs: ids}) {
			if err != nil {
				return FindResult{}, err
			}
			captures[c.ID] = c
		}
		for _, h := range some {
			if err := each(newHitView(h, captures[h.Capture])); err != nil {
				return FindResult{}, err
			}
		}
	}
	return FindResult{Total: hits.Total, More: hits.More}, nil
}

func newHitView(h ledger.Hit, c ledger.Capture) HitView {
	v := HitView{
		Indicator: h.Value, Type: h.Type, Capture: h.Capture,
		Name: known(c.Name), Path: known(c.Path), SessionID: known(c.SessionID), SessionURL: known(c.SessionURL),
		FirstFrame: h.FirstFrame, Count: h.Count, First: h.First, Last: h.Last, Roles: indicator.Role(h.Role).Names(),
	}
	if !utf8.ValidString(c.Name) {
		v.NameBase64 = base64.StdEncoding.EncodeToString([]byte(c.Name))
	}
	if !utf8.ValidString(c.Path) {
		v.PathBase64 = base64.StdEncoding.EncodeToString([]byte(c.Path))
	}
	return v
}
