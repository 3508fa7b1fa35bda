package bundle

import (
	"cmp"
	"context"
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"

	"capagent/internal/lazy"
	"capagent/internal/ledger"
)

const hidden = "(hidden)"

// hider takes out of texts what may be a name or an indicator.
type hider struct {
	names bool // hide nothing
	known *strings.Replacer
}

const (
	maxKnown  = 2000 // captures of which the names are looked for in texts, the newest
	shortName = 4    // bytes: shorter ones would be found in words
)

// learn looks the names up that are certain to be some: in a text nothing tells
// "quarterly report.pcap" from its words.
func (h *hider) learn(ctx context.Context, l *ledger.Ledger) {
	if h.names || l == nil {
		return
	}
	var all []string
	for c, err := range l.List(ctx, ledger.Filter{Newest: true, Limit: maxKnown}) {
		if err != nil {
			break
		}
		all = append(all, c.Path, c.Name, c.SessionName, c.Case, filepath.Base(c.Path), filepath.Dir(c.Path), c.Keylog, c.SessionID)
	}
	slices.SortFunc(all, func(a, b string) int { return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(a, b)) })
	var pairs []string
	for _, name := range slices.Compact(all) {
		if len(name) >= shortName {
			pairs = append(pairs, name, hidden)
		}
	}
	h.known = strings.NewReplacer(pairs...)
}

var (
	quotedText = lazy.Regexp(`"(?:[^"\\]|\\.)*"`)
	// A path goes on until what Go puts behind one, so that blanks in it are hidden, too.
	pathText = lazy.Regexp(`(?:/|[A-Za-z]:\\|\\\\)[^"]*?(: |; |, |$)`)
	harmless = lazy.Regexp(`^(?:[A-Za-z]+(?:[-'][A-Za-z]+)*|[0-9]{1,6}(?:\.[0-9]{1,3})?(?:%|ms|s|m|h|d|B|KiB|MiB|GiB|TiB)?|\(hidden\)|[-–=+]|\d{4}-\d\d-\d\dT[0-9:.]+Z|--?[a-z-]+)$`)
)

// text returns what of s is words and small numbers; the rest is hidden.
func (h *hider) text(s string) string {
	if h.names || s == "" {
		return s
	}
	if h.known != nil {
		s = h.known.Replace(s)
	}
	var lines []string
	for line := range strings.SplitSeq(s, "\n") {
		line = quotedText().ReplaceAllString(line, hidden)
		line = pathText().ReplaceAllString(line, hidden+"$1")
		words := strings.Fields(line)
		for i, w := range words {
			words[i] = word(w)
		}
		lines = append(lines, strings.Join(words, " "))
	}
	return strings.Join(lines, "\n")
}

// word keeps the punctuation around it.
func word(w string) string {
	const around = "[](){}<>,;:.!?`'"
	if harmless().MatchString(w) {
		return w
	}
	inner := strings.Trim(w, around)
	if inner == "" || harmless().MatchString(inner) {
		return w
	}
	return hidden
}

func (h *hider) optional(s *string) *string {
	if s == nil {
		return nil
	}
	text := h.text(*s)
	return &text
}

// keep are the keys of events and of log lines whose values are words of ours, and
// texts those that are made for people. All other strings are hidden.
var (
	keep = []string{
		"time", "ts", "level", "class", "event", "version", "state", "from", "to", "step", "method", "format", "kind", "part",
		"since", "until", "not_before", "capture", "interface", "priority", "__realtime_timestamp",
	}
	texts = []string{"message", "error", "reason", "note", "hint", "cause", "violation", "text"}
)

// object returns a JSON object without what may be a name; ok is false when it is none.
func (h *hider) object(raw []byte) (out []byte, ok bool) {
	var v map[string]any
	d := json.NewDecoder(strings.NewReader(string(raw)))
	d.UseNumber()
	if d.Decode(&v) != nil || v == nil {
		return nil, false
	}
	if h.names {
		return raw, true
	}
	out, err := json.Marshal(h.value("", v, 0))
	return out, err == nil
}

// value looks two objects deep, which is where the keys are ours.
func (h *hider) value(key string, v any, depth int) any {
	switch v := v.(type) {
	case map[string]any:
		if depth > 1 {
			return hidden
		}
		for k, inner := range v {
			v[k] = h.value(strings.ToLower(k), inner, depth+1)
		}
		return v
	case []any: // of names, mostly; the journal writes bytes that are no text so, too
		return hidden
	case string:
		switch {
		case v == "":
			return v
		case slices.Contains(keep, key) && len(v) <= 64 && plainWord().MatchString(v):
			return v
		case slices.Contains(texts, key):
			return h.text(v)
		}
		return hidden
	default: // numbers, booleans, null
		return v
	}
}

// plainWord is what the values of keep look like: a word of ours, a version, a time.
var plainWord = lazy.Regexp(`^[a-z0-9_+-]+$|^[0-9]+\.[0-9]+\.[0-9]+[a-z0-9.-]*$|^\d{4}-\d\d-\d\dT[0-9:.]+(Z|[+-]\d\d:\d\d)$`)
