package threatconnect

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"capagent/enrich/verdict"
)

// What is kept of a server's texts, in bytes.
const (
	maxName        = 200
	maxDescription = 500
	maxLink        = 1 << 10
	maxGroups      = 20   // of one verdict
	maxGroupList   = 1000 // that are looked through for them
)

// The types below take what servers really send (contracts/threatconnect.md 2.2):
// none of them fails, what can't be understood is unset.

// text is a string; a number or truth value is its text.
type text string

func (t *text) UnmarshalJSON(data []byte) error {
	var s string
	switch {
	case json.Unmarshal(data, &s) == nil:
		*t = text(s)
	case data[0] == '{', data[0] == '[':
		*t = ""
	default:
		*t = text(data)
	}
	if string(data) == "null" {
		*t = ""
	}
	return nil
}

// id is a whole number, also above 2^53, that may come as a string.
type id int64

func (i *id) UnmarshalJSON(data []byte) error {
	n, err := strconv.ParseInt(strings.Trim(string(data), `" `), 10, 64)
	if err != nil || n < 0 {
		n = 0
	}
	*i = id(n)
	return nil
}

// number is any number, that may come as a string.
type number float64

func (n *number) UnmarshalJSON(data []byte) error {
	f, err := strconv.ParseFloat(strings.Trim(string(data), `" `), 64)
	if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
		f = 0
	}
	*n = number(f)
	return nil
}

func (n number) within(most float64) float64 { return min(max(float64(n), 0), most) }

// inactive is a truth value that is only seen when it is false.
type inactive bool

func (i *inactive) UnmarshalJSON(data []byte) error {
	*i = inactive(strings.EqualFold(strings.Trim(string(data), `" `), "false"))
	return nil
}

// date is a time in one of the many ways.
type date struct{ time.Time }

var layouts = []string{
	time.RFC3339, "2006-01-02T15:04:05Z0700", "2006-01-02T15:04:05", "2006-01-02 15:04:05", time.DateOnly,
}

func (d *date) UnmarshalJSON(data []byte) error {
	d.Time = parseDate(strings.Trim(string(data), `" `))
	return nil
}

func parseDate(s string) time.Time {
	if len(s) > 40 {
		return time.Time{}
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil && n > 0 {
		if n > 1e11 { // no year that concerns us: these are milliseconds
			return time.UnixMilli(n).UTC()
		}
		return time.Unix(n, 0).UTC()
	}
	if i := len(s) - len("-05:00Z"); i > 0 && (s[i] == '-' || s[i] == '+') && s[i+3] == ':' && s[len(s)-1] == 'Z' {
		s = s[:len(s)-1]
	}
	for _, layout := range layouts {
		if t, err := time.Parse(layout, s); err == nil && t.Year() > 1 {
			return t.UTC()
		}
	}
	return time.Time{}
}

// item is an indicator as either API describes it.
type item struct {
	ID          id              `json:"id"`
	Type        text            `json:"type"`
	Summary     text            `json:"summary"`
	OwnerName   text            `json:"ownerName"`
	Owner       json.RawMessage `json:"owner"` // v2: {"id", "name", "type"}
	Rating      number          `json:"rating"`
	Confidence  number          `json:"confidence"`
	Inactive    inactive        `json:"active"`
	Description text            `json:"description"`
	WebLink     text            `json:"webLink"`
	Modified    date            `json:"lastModified"`
	Added       date            `json:"dateAdded"`
	Groups      json.RawMessage `json:"associatedGroups"`

	IP        text `json:"ip"`
	HostName  text `json:"hostName"`
	Text      text `json:"text"`
	Address   text `json:"address"`
	MD5       text `json:"md5"`
	SHA1      text `json:"sha1"`
	SHA256    text `json:"sha256"`
	Block     text `json:"block"`
	BlockV2   text `json:"Block"`
	UserAgent text `json:"User Agent String"`
}

func (i *item) owner() string {
	if i.OwnerName != "" {
		return line(string(i.OwnerName), maxName)
	}
	var o struct {
		Name text `json:"name"`
	}
	if json.Unmarshal(i.Owner, &o) != nil {
		return ""
	}
	return line(string(o.Name), maxName)
}

// verdict is what the item says, in our words.
func (i *item) verdict(b base) verdict.Verdict {
	modified := i.Modified.Time
	if modified.IsZero() {
		modified = i.Added.Time
	}
	return verdict.Verdict{
		Source: Name, Owner: i.owner(),
		Rating: i.Rating.within(5), Confidence: int(i.Confidence.within(100)),
		ID: int64(i.ID), Link: b.link(string(i.WebLink)),
		Groups:      groups(b, i.Groups),
		Description: line(string(i.Description), maxDescription),
		Modified:    modified,
	}
}

// groupTypes are those that say who or what is behind an indicator.
var groupTypes = map[string]bool{"adversary": true, "campaign": true, "malware": true, "intrusion set": true, "threat": true}

// groups reads {"data": [...]} or [...].
func groups(b base, raw json.RawMessage) []verdict.Group {
	var wrapped struct {
		Data json.RawMessage `json:"data"`
	}
	if len(raw) > 0 && raw[0] == '{' && json.Unmarshal(raw, &wrapped) == nil {
		raw = wrapped.Data
	}
	var all []verdict.Group
	_ = each(raw, maxGroupList, func(one json.RawMessage) error {
		var g struct {
			Type    text `json:"type"`
			Name    text `json:"name"`
			WebLink text `json:"webLink"`
		}
		if len(all) >= maxGroups || json.Unmarshal(one, &g) != nil || g.Name == "" || !groupTypes[strings.ToLower(string(g.Type))] {
			return nil
		}
		all = append(all, verdict.Group{Type: line(string(g.Type), maxName), Name: line(string(g.Name), maxName), Link: b.link(string(g.WebLink))})
		return nil
	})
	return all
}

var (
	errData = errors.New("there is nothing in the reply")
	errList = errors.New("there is no list where one is expected")
	errMany = errors.New("the list is longer than was asked for")
)

// each hands out the elements of a JSON list one by one, so that a page of
// millions of empty objects costs no more than its bytes. No list is an empty one.
func each(raw json.RawMessage, most int, f func(json.RawMessage) error) error {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 || string(raw) == "null" || string(raw) == "{}" {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	if t, err := d.Token(); err != nil || t != json.Delim('[') {
		return errList
	}
	var one json.RawMessage
	for n := 0; d.More(); n++ {
		if n >= most {
			return errMany
		}
		one = one[:0]
		if err := d.Decode(&one); err != nil {
			return errList
		}
		if err := f(one); err != nil {
			return err
		}
	}
	return nil
}

// link makes a link of what the server says, "" when it is none that a person
// should be sent to. Servers that don't know their own address write
// "null/auth/...", and v3 may leave it out.
func (b base) link(text string) string {
	text = strings.TrimPrefix(text, "null")
	if strings.HasPrefix(text, "/") && !strings.HasPrefix(text, "//") {
		text = b.origin() + text
	}
	if len(text) > maxLink {
		return ""
	}
	for _, c := range []byte(text) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte("\"<>\\^`{|}", c) >= 0 {
			return ""
		}
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.Opaque != "" {
		return ""
	}
	if u.Scheme == "https" || u.Scheme == "http" && b.scheme == "http" && strings.EqualFold(u.Host, b.host) {
		return text
	}
	return ""
}

// line makes a server's text one line of at most so many bytes.
func line(s string, most int) string {
	const tail = "..."
	if len(s) > most*8 {
		s = s[:most*8]
	}
	var out strings.Builder
	blank := false
	for _, r := range s {
		if r == utf8.RuneError || !unicode.IsGraphic(r) || unicode.IsSpace(r) {
			r = ' '
		}
		if r == ' ' {
			blank = out.Len() > 0
			continue
		}
		if blank {
			out.WriteByte(' ')
			blank = false
		}
		out.WriteRune(r)
	}
	if s = out.String(); len(s) <= most {
		return s
	}
	cut := most - len(tail)
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + tail
}
