package verdict

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"capagent/enrich/indicator"
)

// Bounds of what is said of a finding.
const (
	maxShown  = 120 // bytes of an indicator's value
	maxGroups = 3   // groups of a line
	maxTag    = 40  // bytes
)

// Defang returns a value so that nobody follows it by accident: hxxp, [.], [@].
func Defang(i indicator.Indicator) string {
	value := i.Value
	switch i.Type {
	case indicator.URL:
		scheme, rest, _ := strings.Cut(value, "://")
		end := strings.IndexAny(rest, "/?#")
		if end < 0 {
			end = len(rest)
		}
		return strings.ReplaceAll(scheme, "tt", "xx") + "://" + dotless(rest[:end]) + rest[end:]
	case indicator.Email:
		return dotless(strings.ReplaceAll(value, "@", "[@]"))
	case indicator.Address, indicator.Host, indicator.LocalHost:
		return dotless(value)
	}
	return value
}

func dotless(text string) string {
	if !strings.Contains(text, ".") { // IPv6
		return strings.Replace(text, ":", "[:]", 1)
	}
	return strings.ReplaceAll(text, ".", "[.]")
}

// clip returns a text, or its beginning of at most n bytes.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// shown returns a text on one line, at most n bytes of it.
func shown(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, clip(s, 4*n))
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > n {
		s = clip(s, n-len("…")) + "…"
	}
	return s
}

func number(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// what says an indicator in words.
func what(i indicator.Indicator) string {
	return strings.ReplaceAll(i.Type.String(), "_", " ") + " " + shown(Defang(i), maxShown)
}

// why says the verdict that counts in words.
func why(f Finding) string {
	w := f.Worst()
	source := shown(w.Source, maxTag)
	if w.Owner != "" && w.Owner != w.Source {
		source += " (" + shown(w.Owner, maxTag) + ")"
	}
	text := fmt.Sprintf("%s: rating %s, confidence %d%%", source, number(w.Rating), w.Confidence)
	for n, g := range groups(f) {
		if n == maxGroups {
			break
		}
		text += ", " + shown(strings.ToLower(g.Type), maxTag) + " " + shown(g.Name, maxTag)
	}
	return text
}

// groups are those of all verdicts, those of the worst first, each once.
func groups(f Finding) (all []Group) {
	for _, v := range f.Verdicts {
		for _, g := range v.Groups {
			if !slices.ContainsFunc(all, func(h Group) bool { return h.Type == g.Type && h.Name == g.Name }) {
				all = append(all, g)
			}
		}
	}
	return all
}

// Annotation returns a line for the finding's first frame.
func Annotation(f Finding) string {
	return what(f.Indicator) + ": " + why(f) + of(f)
}

// of says whose a finding is.
func of(f Finding) string {
	text := ""
	for n, m := range f.Machines {
		text += [...]string{"; of ", " and "}[min(n, 1)] + shown(m, maxShown)
	}
	return text
}

// Summary returns plain text for the comments of a session, at most max bytes: a line
// for each finding, the worst first.
func Summary(findings []Finding, max int) string {
	if len(findings) == 0 {
		return ""
	}
	head := fmt.Sprintf("%d findings:", len(findings))
	if len(findings) == 1 {
		head = "1 finding:"
	}
	if len(head) > max {
		return ""
	}
	b := []byte(head)
	for n, f := range findings {
		line := fmt.Sprintf("\n%s (%s; frame %d, seen %d times%s)", what(f.Indicator), why(f), f.Indicator.First.Frame, f.Indicator.Count, of(f))
		rest := fmt.Sprintf("\nand %d more", len(findings)-n)
		// There must be room for saying how many are left out, unless this is the last.
		last := n == len(findings)-1
		if size := len(b) + len(line); size > max || !last && size+len(rest) > max {
			if len(b)+len(rest) <= max {
				b = append(b, rest...)
			}
			break
		}
		b = append(b, line...)
	}
	return string(b)
}

// Tags returns at most room tags for a session: the same ones for the same findings,
// whatever their order.
func Tags(findings []Finding, room int) []string {
	if len(findings) == 0 {
		return nil
	}
	tags := []string{"threat"}
	worst := 0.0
	var sources, named []string
	for _, f := range findings {
		worst = max(worst, f.Worst().Rating)
		for _, v := range f.Verdicts {
			sources = append(sources, tag(v.Source))
		}
		for _, g := range groups(f) {
			if g.Type != "" && g.Name != "" {
				named = append(named, tag(g.Type)+":"+tag(g.Name))
			}
		}
	}
	tags = append(tags, "rating:"+strconv.Itoa(int(worst)))
	for _, list := range [][]string{sources, named} {
		slices.Sort(list)
		for _, t := range slices.Compact(list) {
			if t != "" {
				tags = append(tags, t)
			}
		}
	}
	return tags[:min(len(tags), max(room, 0))]
}

// tag returns a text as a part of a tag: in lower case, without what separates tags.
func tag(text string) string {
	text = strings.Map(func(r rune) rune {
		if r == ',' || r == '"' {
			return ' '
		}
		return unicode.ToLower(r)
	}, text)
	return strings.ReplaceAll(shown(text, maxTag), " ", "-")
}
