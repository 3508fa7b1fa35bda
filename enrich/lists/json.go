package lists

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"capagent/enrich/indicator"
	"capagent/enrich/verdict"
)

// json reads ThreatConnect's bulk download, an object with an array "indicator", or a
// bundle of STIX 2.1, one with an array "objects". It holds one element at a time.
func (b *builder) json(r *bufio.Reader) (format string, err error) {
	element := &bounding{r, maxElement, fmt.Errorf("%w: an element of more than %d MiB", errTooLarge, maxElement>>20)}
	d := json.NewDecoder(element)
	if _, err := d.Token(); err != nil {
		return "JSON", err
	}
	for d.More() {
		element.left = maxElement
		key, err := d.Token()
		if err != nil {
			return "JSON", err
		}
		switch key {
		case "indicator":
			format, err = "ThreatConnect JSON", each(d, element, b.threatConnectJSON)
		case "objects":
			format, err = "STIX", each(d, element, b.stix)
		default:
			var other json.RawMessage
			err = d.Decode(&other)
		}
		if err != nil {
			return format, err
		}
	}
	if _, err := d.Token(); err != nil { // the end of a file that was cut short
		return format, err
	}
	if format == "" {
		return "JSON", errors.New(`neither a ThreatConnect download ("indicator") nor a STIX bundle ("objects")`)
	}
	return format, nil
}

// each calls f with the elements of an array. One of another form than expected is
// none: T leaves it empty.
func each[T any](d *json.Decoder, element *bounding, f func(T) error) error {
	start, err := d.Token()
	if err != nil {
		return err
	}
	if start != json.Delim('[') {
		return errors.New("not an array")
	}
	for d.More() {
		element.left = maxElement
		var v T
		err := d.Decode(&v)
		var form *json.UnmarshalTypeError
		if err != nil && !errors.As(err, &form) {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		if err := f(v); err != nil {
			return err
		}
	}
	_, err = d.Token()
	return err
}

// loose is a value that is a text, a number or a boolean, as ThreatConnect's are.
type loose string

func (l *loose) UnmarshalJSON(b []byte) error {
	*l = ""
	var text string
	switch {
	case json.Unmarshal(b, &text) == nil:
		*l = loose(text)
	case len(b) > 0 && b[0] != '{' && b[0] != '[' && string(b) != "null":
		*l = loose(b)
	}
	return nil
}

func (l loose) float() float64 {
	f, err := strconv.ParseFloat(string(l), 64)
	if err != nil {
		return 0
	}
	return f
}

type threatConnectElement struct {
	ID           loose `json:"id"`
	Owner        loose `json:"ownerName"`
	Type         loose `json:"type"`
	Rating       loose `json:"rating"`
	Confidence   loose `json:"confidence"`
	Link         loose `json:"webLink"`
	Description  loose `json:"description"`
	Summary      loose `json:"summary"`
	LastModified loose `json:"lastModified"`
	Active       loose `json:"active"`
}

func (b *builder) threatConnectJSON(e threatConnectElement) error {
	switch {
	case e.Type == "" || e.Summary == "":
		b.skip(notIndicator)
		return nil
	case e.Active == "false":
		b.skip(notActive)
		return nil
	}
	v := verdict.Verdict{
		Owner: string(e.Owner), Rating: e.Rating.float(), Confidence: int(min(max(e.Confidence.float(), 0), 100)),
		Link: string(e.Link), Description: string(e.Description), Modified: date(string(e.LastModified)),
	}
	v.ID, _ = strconv.ParseInt(string(e.ID), 10, 64) // 0: it says none
	if v.Owner == "" {
		v.Owner = b.config.owner()
	}
	return b.threatConnect(string(e.Type), string(e.Summary), v)
}

// date returns the time of a text in one of the forms that ThreatConnect and STIX
// write, zero for none.
func date(text string) time.Time {
	if strings.HasSuffix(text, "Z") && len(text) > 7 && strings.ContainsAny(text[len(text)-7:len(text)-6], "+-") {
		text = strings.TrimSuffix(text, "Z") // -05:00Z
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC().Truncate(time.Second)
		}
	}
	return time.Time{}
}

type stixObject struct {
	Type        string `json:"type"`
	Name        string `json:"name"`
	Description string `json:"description"`
	Pattern     string `json:"pattern"`
	PatternType string `json:"pattern_type"`
	ValidUntil  string `json:"valid_until"`
	Modified    string `json:"modified"`
	Revoked     bool   `json:"revoked"`
	Confidence  *int   `json:"confidence"`
	References  []struct {
		URL string `json:"url"`
	} `json:"external_references"`
}

func (b *builder) stix(o stixObject) error {
	if o.Type != "indicator" {
		return nil // a bundle has objects of many types
	}
	until := date(o.ValidUntil)
	if o.Revoked || !until.IsZero() && !until.After(b.now) {
		b.skip(notActive)
		return nil
	}
	all, ok := simplePattern(o.Pattern)
	if !ok || o.PatternType != "" && o.PatternType != "stix" {
		b.skip(notSimple)
		return nil
	}
	v := b.base()
	v.Description, v.Modified = strings.TrimSpace(o.Name), date(o.Modified)
	if v.Description == "" {
		v.Description = o.Description
	}
	if o.Confidence != nil {
		v.Confidence = *o.Confidence
	}
	for _, r := range o.References {
		if strings.HasPrefix(r.URL, "https://") {
			v.Link = r.URL
			break
		}
	}
	for _, c := range all {
		if err := b.put(c.typ, c.value, v); err != nil {
			return err
		}
	}
	return nil
}

// comparison is what a simple pattern compares.
type comparison struct {
	typ   indicator.Type
	value string
}

// simplePattern returns the comparisons of a STIX pattern (STIX 2.1, 9) that is
// nothing but equalities, or subsets of prefixes, of which one must be true:
// [domain-name:value = 'x.example' OR url:value = 'y'] OR [...].
func simplePattern(text string) (all []comparison, ok bool) {
	for {
		rest, ok := strings.CutPrefix(strings.TrimSpace(text), "[")
		if !ok {
			return nil, false
		}
		for {
			c, behind, ok := oneComparison(rest)
			if !ok {
				return nil, false
			}
			all = append(all, c)
			if rest, ok = cutOr(behind); !ok {
				rest = behind
				break
			}
		}
		if text, ok = strings.CutPrefix(strings.TrimSpace(rest), "]"); !ok {
			return nil, false
		}
		if strings.TrimSpace(text) == "" {
			return all, true
		}
		if text, ok = cutOr(text); !ok {
			return nil, false
		}
	}
}

func cutOr(text string) (string, bool) { return strings.CutPrefix(strings.TrimSpace(text), "OR") }

// stixPaths are the object paths that are looked up, without quotes.
var stixPaths = map[string]indicator.Type{
	"ipv4-addr:value": indicator.Address, "ipv6-addr:value": indicator.Address, "domain-name:value": indicator.Host,
	"url:value": indicator.URL, "email-addr:value": indicator.Email,
	"file:hashes.MD5": indicator.File, "file:hashes.SHA-1": indicator.File, "file:hashes.SHA1": indicator.File,
	"file:hashes.SHA-256": indicator.File, "file:hashes.SHA256": indicator.File,
	"x509-certificate:hashes.SHA-1": indicator.Certificate, "x509-certificate:hashes.SHA-256": indicator.Certificate,
}

func oneComparison(text string) (c comparison, rest string, ok bool) {
	text = strings.TrimSpace(text)
	end := strings.IndexAny(text, "= \t")
	if end < 0 {
		return c, "", false
	}
	path := strings.NewReplacer("'", "", `"`, "").Replace(text[:end])
	if c.typ, ok = stixPaths[path]; !ok {
		return c, "", false
	}
	rest = strings.TrimSpace(text[end:])
	subset := false
	if value, ok := strings.CutPrefix(rest, "="); ok {
		rest = value
	} else if value, ok := strings.CutPrefix(rest, "ISSUBSET"); ok && c.typ == indicator.Address {
		rest, subset = value, true
	} else {
		return c, "", false
	}
	if c.value, rest, ok = stixText(strings.TrimSpace(rest)); !ok {
		return c, "", false
	}
	// An equality with a prefix is one with all of it, which no packet has.
	return c, rest, subset || c.typ != indicator.Address || !strings.Contains(c.value, "/") || single(c.value)
}

// single says whether a prefix is one address.
func single(text string) bool {
	p, ok := indicator.CanonicalPrefix(text)
	return ok && p.IsSingleIP()
}

// stixText returns a text in single quotes, in which a backslash stands before a
// quote and a backslash.
func stixText(text string) (value, rest string, ok bool) {
	if !strings.HasPrefix(text, "'") {
		return "", "", false
	}
	var b strings.Builder
	for i := 1; i < len(text); i++ {
		switch {
		case text[i] == '\\' && i+1 < len(text):
			i++
			b.WriteByte(text[i])
		case text[i] == '\'':
			return b.String(), text[i+1:], true
		default:
			b.WriteByte(text[i])
		}
	}
	return "", "", false
}
