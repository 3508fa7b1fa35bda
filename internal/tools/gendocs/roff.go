package gendocs

import (
	"fmt"
	"strings"
)

// page writes a page by the conventions of man-pages(7).
func page(h help, about About, words []string, short string) string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	full := name(about, words)
	p(`.TH "%s" "1" "%s" "%s %s" "%s"`, strings.ToUpper(full), about.Date, about.Program, about.Version, about.Program)
	p(".nh\n.ad l")
	p(".SH NAME\n%s \\- %s", roff(full), roff(lowerFirst(short)))
	p(".SH SYNOPSIS\n.nf")
	for line := range strings.Lines(h.usage) {
		p(`\fB%s\fR`, roff(strings.TrimSpace(line)))
	}
	p(".fi")
	if h.long != "" {
		p(".SH DESCRIPTION")
		b.WriteString(paragraphs(h.long))
	}
	section(&b, "COMMANDS", commandPages(h.commands, full))
	section(&b, "OPTIONS", h.flags)
	section(&b, "GLOBAL OPTIONS", h.global)
	if h.examples != "" {
		p(".SH EXAMPLES")
		p(".nf\n%s\n.fi", verbatim(h.examples))
	}
	if len(words) == 0 {
		var codes []entry
		for _, e := range about.Exits {
			codes = append(codes, entry{e.Code, e.Meaning})
		}
		section(&b, "EXIT STATUS", codes)
		p(".SH FILES\n`%s paths` says where the configuration, the ledger and the spool are.", about.Program)
	} else {
		p(`.SH SEE ALSO
\fB%s\fR(1)`, roff(name(about, words[:len(words)-1])))
	}
	return b.String()
}

func commandPages(commands []entry, full string) []entry {
	var all []entry
	for _, c := range commands {
		if c.key != "help" {
			all = append(all, entry{full + "-" + c.key + "(1)", c.text})
		}
	}
	return all
}

func section(b *strings.Builder, title string, entries []entry) {
	if len(entries) == 0 {
		return
	}
	fmt.Fprintf(b, ".SH %s\n", title)
	for _, e := range entries {
		fmt.Fprintf(b, ".TP\n\\fB%s\\fR\n%s\n", roff(e.key), line(e.text))
	}
}

// paragraphs fills text, and leaves lines that are indented as they are.
func paragraphs(text string) string {
	var b strings.Builder
	shown := false
	set := func(to bool) {
		if to != shown {
			b.WriteString(map[bool]string{true: ".RS 2\n.nf\n", false: ".fi\n.RE\n"}[to])
		}
		shown = to
	}
	for l := range strings.Lines(text) {
		l = strings.TrimRight(l, "\n")
		switch {
		case l == "":
			set(false)
			b.WriteString(".PP\n")
		case strings.HasPrefix(l, "  "), strings.HasPrefix(l, "\t"):
			set(true)
			b.WriteString(line(strings.TrimPrefix(strings.TrimPrefix(l, "  "), "\t")) + "\n")
		default:
			set(false)
			b.WriteString(line(l) + "\n")
		}
	}
	set(false)
	return b.String()
}

func verbatim(text string) string {
	var lines []string
	for l := range strings.Lines(text) {
		lines = append(lines, line(strings.TrimRight(l, "\n")))
	}
	return strings.Join(lines, "\n")
}

// line makes text that can stand at the beginning of a line: a point or a quote
// would be a request there.
func line(text string) string {
	text = roff(text)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		return `\&` + text
	}
	return text
}

var escapes = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "~", `\(ti`, "^", `\(ha`)

func roff(text string) string { return escapes.Replace(text) }

// lowerFirst makes a sentence's beginning fit behind a name; abbreviations stay.
func lowerFirst(s string) string {
	if len(s) < 2 || s[1] < 'a' || s[1] > 'z' {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}
