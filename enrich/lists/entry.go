package lists

import (
	"math"
	"strings"
	"time"

	"capagent/enrich/indicator"
	"capagent/enrich/verdict"
)

// Bounds of what is kept of an entry.
const (
	maxOwner       = 100
	maxLink        = 500
	maxDescription = 200
)

// The reasons for which something in a list is left out; other reasons name a type.
const (
	notIndicator = "not an indicator"
	notSupported = "a type that is not looked up: "
	notSimple    = "a pattern that is not simple"
	notActive    = "inactive, revoked or expired"
	everything   = "matches everything"
)

// builder takes the entries of a file.
type builder struct {
	*index
	config  Config
	skipped map[string]int64
	taken   int64
	now     time.Time
}

func (b *builder) skip(reason string) {
	const most = 50 // types come from the file
	if _, known := b.skipped[reason]; !known && len(b.skipped) >= most {
		reason = "others"
	}
	b.skipped[reason]++
}

// base is the verdict of formats that say nothing of their own.
func (b *builder) base() verdict.Verdict {
	return verdict.Verdict{Owner: b.config.owner(), Rating: *b.config.Rating, Confidence: *b.config.Confidence}
}

// bounded brings a verdict from a file within what a verdict may be.
func bounded(v verdict.Verdict) verdict.Verdict {
	if math.IsNaN(v.Rating) {
		v.Rating = 0
	}
	v.Rating, v.Confidence = min(max(v.Rating, 0), 5), min(max(v.Confidence, 0), 100)
	v.Owner, v.Description = oneLine(v.Owner, maxOwner), oneLine(v.Description, maxDescription)
	if !strings.HasPrefix(v.Link, "https://") || len(v.Link) > maxLink || oneLine(v.Link, maxLink) != v.Link || strings.ContainsAny(v.Link, "\"'<> ") {
		v.Link = ""
	}
	return v
}

func oneLine(text string, n int) string {
	if len(text) > n {
		text = text[:n]
	}
	return strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\ufffd' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, ""))), " ")
}

// put adds an indicator of a known type.
func (b *builder) put(t indicator.Type, text string, v verdict.Verdict) error {
	meta := -1
	add := func(k kind, value string) error {
		if meta < 0 {
			v = bounded(v)
			meta = b.meta(&v)
		}
		b.taken++
		return b.add(k, value, meta)
	}
	text = strings.TrimSpace(text)
	switch t {
	case indicator.Host, indicator.LocalHost:
		return b.putHost(text, add)
	case indicator.URL:
		return b.putURL(text, add)
	case indicator.Address:
		if strings.Contains(text, "/") {
			return b.putPrefix(text, add)
		}
	}
	value, ok := indicator.Canonical(t, text)
	if !ok {
		b.skip(notIndicator)
		return nil
	}
	return add(kinds[t], value)
}

// kinds are the kinds of types that have one only.
var kinds = map[indicator.Type]kind{
	indicator.Address: address, indicator.File: digest, indicator.Certificate: digest, indicator.JA3: digest,
	indicator.Email: email, indicator.UserAgent: agent, indicator.JA4: ja4,
}

// putHost adds a name: x.example; *.x.example, which is every name below it;
// .x.example, which is both.
func (b *builder) putHost(text string, add func(kind, string) error) error {
	exact, under := true, b.config.Subdomains
	if rest, ok := strings.CutPrefix(text, "*."); ok {
		text, exact, under = rest, false, true
	} else if rest, ok := strings.CutPrefix(text, "."); ok {
		text, under = rest, true
	}
	if a, ok := indicator.Canonical(indicator.Address, text); ok && exact && !under {
		return add(address, a)
	}
	name, ok := indicator.Canonical(indicator.Host, text)
	if !ok || !isName(name) {
		b.skip(notIndicator)
		return nil
	}
	if exact {
		if err := add(host, name); err != nil {
			return err
		}
	}
	if under {
		return add(below, name)
	}
	return nil
}

// isName says whether text is a host name with more than one label.
func isName(text string) bool {
	if len(text) > maxParent || !strings.Contains(text, ".") || strings.Trim(text, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "" {
		return false
	}
	return !strings.HasPrefix(text, ".") && !strings.Contains(text, "..")
}

func (b *builder) putURL(text string, add func(kind, string) error) error {
	bare := !strings.Contains(text, "://")
	if bare {
		text = "http://" + text
	}
	value, ok := indicator.Canonical(indicator.URL, text)
	if scheme, rest, _ := strings.Cut(value, "://"); !ok || strings.Trim(scheme, "abcdefghijklmnopqrstuvwxyz0123456789+-.") != "" || rest == "" || rest[0] == '/' {
		b.skip(notIndicator)
		return nil
	}
	value = normal(value)
	if bare {
		value, _ = cutScheme(value)
		return add(bareURL, value)
	}
	return add(fullURL, value)
}

func (b *builder) putPrefix(text string, add func(kind, string) error) error {
	p, ok := indicator.CanonicalPrefix(text)
	switch {
	case !ok:
		b.skip(notIndicator)
	case p.Bits() == 0:
		b.skip(everything)
	case p.IsSingleIP():
		return add(address, p.Addr().String())
	default:
		return add(prefix, p.String())
	}
	return nil
}

// guess adds an indicator whose type only its form says.
func (b *builder) guess(text string, v verdict.Verdict) error {
	text = indicator.Refang(text)
	if strings.Contains(text, "://") {
		return b.put(indicator.URL, text, v)
	}
	if strings.Contains(text, "/") {
		if _, ok := indicator.CanonicalPrefix(text); ok {
			return b.put(indicator.Address, text, v)
		}
		if name, _, _ := strings.Cut(text, "/"); strings.Contains(name, ".") && !strings.ContainsAny(text, " \t") {
			return b.put(indicator.URL, text, v)
		}
		b.skip(notIndicator)
		return nil
	}
	types := indicator.Guess(strings.TrimSpace(text))
	switch t := types[0]; t {
	case indicator.Address, indicator.File, indicator.Certificate, indicator.JA3, indicator.JA4, indicator.Email, indicator.Host:
		return b.put(t, text, v)
	}
	b.skip(notIndicator)
	return nil
}
