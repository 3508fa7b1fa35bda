package upload

import (
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"capagent/internal/lazy"
	"capagent/internal/ledger"
)

// maxName bounds a session's file name in bytes: file systems end at 255.
const maxName = 200

// Placeholders of templates. {host} is the agent's name, {source} where the
// capture came from, {case} the case's ID, {dir} the directory that held the
// file, {name} the original file name, {path} the whole original path, {first}
// the time of the first packet, {sha} the first 12 digits of the SHA-256.
var (
	namePlaceholders = []string{"host", "source", "case", "first", "sha"}
	tagPlaceholders  = []string{"host", "source", "case", "dir", "name", "path"}
	placeholder      = lazy.Regexp(`\{[^{}]*\}`)
)

func checkTemplate(template string, known []string) error {
	if len(template) > maxTemplate {
		return fmt.Errorf("expected at most %d bytes", maxTemplate)
	}
	if strings.ContainsFunc(template, unicode.IsControl) {
		return errors.New("expected no control characters")
	}
	for _, p := range placeholder().FindAllString(template, -1) {
		if !slices.Contains(known, p[1:len(p)-1]) {
			return fmt.Errorf("unknown placeholder %s; known are {%s}", strconv.QuoteToGraphic(p), strings.Join(known, "}, {"))
		}
	}
	return nil
}

// expand replaces the placeholders that values has. It reports whether all that
// it replaced had a value. What is put in is not looked at again.
func expand(template string, values map[string]string) (string, bool) {
	full := true
	out := placeholder().ReplaceAllStringFunc(template, func(p string) string {
		v, ok := values[p[1:len(p)-1]]
		if !ok {
			return p
		}
		full = full && v != ""
		return v
	})
	return out, full
}

// factsOf returns what the placeholders of tags and comments stand for.
func factsOf(host string, c *ledger.Capture) map[string]string {
	v := map[string]string{"host": host, "source": c.Source, "case": c.Case, "name": path.Base(filepath.ToSlash(c.Name)), "path": c.Path, "dir": ""}
	if c.Name == "" {
		v["name"] = ""
	}
	if dir := filepath.Base(filepath.Dir(c.Path)); dir != "." && dir != string(filepath.Separator) {
		v["dir"] = dir
	}
	if c.Owned { // a file of our own lies where it lies for no reason of the user's
		v["dir"], v["path"] = "", ""
	}
	return v
}

// sessionName returns the file name that CloudShark is given. It depends on the
// template and the capture alone, so a later look-up asks for the same name.
// A name that the user chose (c.SessionName) stands in for the template.
func sessionName(template, host string, c *ledger.Capture, number, of int) string {
	first := "nopackets"
	if !c.First.IsZero() {
		first = c.First.UTC().Format("20060102T150405Z")
	}
	sha := c.SHA256[:min(12, len(c.SHA256))]
	values := map[string]string{"first": first, "sha": sha}
	for key, value := range factsOf(host, c) {
		values[key] = safe(value, 40)
	}
	base, _ := expand(template, values)
	if c.SessionName != "" {
		base = strings.TrimSuffix(strings.TrimSuffix(c.SessionName, ".pcapng"), ".pcap")
	}
	suffix := extension(c.Format)
	if of > 1 {
		width := max(2, len(strconv.Itoa(of)))
		suffix = fmt.Sprintf("-part%0*dof%0*d", width, number, width, of) + suffix
	}
	most := maxName - len(suffix)
	base = safe(base, maxTemplate+8*40)
	if len(base) > most {
		base = base[:most-len(sha)-1] + "-" + sha
	}
	return base + suffix
}

func extension(format string) string {
	if format == "pcapng" {
		return ".pcapng"
	}
	return ".pcap"
}

// safe keeps letters, digits, dot, dash and underscore of ASCII, puts one
// underscore for each run of anything else, and begins with no dot or dash.
func safe(s string, most int) string {
	var b strings.Builder
	gap := false
	for _, r := range s {
		ok := r < 0x80 && (r == '.' || r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r))
		if !ok {
			gap = true
			continue
		}
		if gap && b.Len() > 0 {
			b.WriteByte('_')
		}
		gap = false
		b.WriteRune(r)
	}
	out := strings.TrimLeft(b.String(), ".-")
	return out[:min(len(out), most)]
}

// Tags expands templates (checked by CheckTags) for a capture, whose Tags they
// are to become: without commas and control characters, without duplicates, and
// at most MaxTags. A tag with a placeholder that stands for nothing is left out.
func Tags(templates []string, host string, c *ledger.Capture) []string {
	values := factsOf(host, c)
	var tags []string
	for _, template := range templates {
		tag, full := expand(template, values)
		if tag = cleanTag(tag); full && tag != "" && len(tags) < MaxTags && !slices.Contains(tags, tag) {
			tags = append(tags, tag)
		}
	}
	return tags
}

func cleanTag(s string) string {
	s = strings.ReplaceAll(line(s), ",", "_")
	return strings.TrimSpace(cut(strings.TrimSpace(s), MaxTag))
}

// cut shortens s to most bytes at a rune's border.
func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for most > 0 && s[most]&0xc0 == 0x80 {
		most--
	}
	return s[:most]
}

// sessionComments returns what the user has to say, then the facts by which the
// session can be traced to the file, in at most maxComments bytes.
func sessionComments(template, host string, c *ledger.Capture, p *ledger.Part) string {
	lines := []string{"file: " + strconv.Quote(cut(strings.ToValidUTF8(c.Name, "_"), 300))}
	if c.SHA256 == "" {
		lines = append(lines, "sent while it was captured")
	} else {
		lines = append(lines, "sha256: "+c.SHA256)
	}
	if c.Case != "" {
		lines = append(lines, "case: "+line(cut(c.Case, 100)))
	}
	if c.Threats != "" {
		lines = append(lines, printable(cut(c.Threats, maxThreats)))
	}
	if c.Machines != "" {
		lines = append(lines, "machines:\n"+strings.TrimRight(printable(cut(c.Machines, maxMachines)), "\n"))
	}
	if c.Summary != "" {
		lines = append(lines, printable(cut(c.Summary, maxSummary)))
	}
	if c.Wrapper != "" {
		lines = append(lines, "unwrapped from "+c.Wrapper)
	}
	if p.Of > 1 {
		part := fmt.Sprintf("part %d of %d of that file, %d packets", p.Number, p.Of, p.Packets)
		if !p.First.IsZero() {
			part += " from " + p.First.UTC().Format(time.RFC3339Nano)
		}
		lines = append(lines, part)
	}
	facts := cut(strings.Join(lines, "\n"), maxComments)
	values := factsOf(host, c)
	for key, value := range values {
		values[key] = line(cut(value, 300)) // a file's name must not add lines
	}
	own, _ := expand(template, values)
	own = strings.TrimSpace(strings.TrimSpace(printable(own)) + "\n" + printable(c.Comment))
	own = cut(own, max(maxComments-len(facts)-1, 0))
	if own == "" {
		return facts
	}
	return own + "\n" + facts
}

// printable keeps line breaks and turns every other character that does not
// print into an underscore.
func printable(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = line(lines[i])
	}
	return strings.Join(lines, "\n")
}

// line is printable without line breaks.
func line(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '_'
		}
		return r
	}, strings.ToValidUTF8(s, "_"))
}
