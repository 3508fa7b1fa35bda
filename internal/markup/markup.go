// Package markup writes HTML in which a value can only be text.
//
// html/template does more, but it calls methods by name: with it in a program, the
// linker keeps every exported method of every type, which here is 8 of 36 MB.
package markup

import (
	"fmt"
	"strings"
)

// Fixed is markup that stands in the source: a constant becomes one by itself, a
// string from anywhere else does not.
type Fixed string

// Page is a page in the making.
type Page struct{ text strings.Builder }

// Add writes markup in which each {} is the next value. A {} may stand in text and
// between double quotes, and nowhere else; in an address it is the caller's to
// escape what means something there.
func (p *Page) Add(markup Fixed, values ...any) {
	for rest := string(markup); ; {
		before, after, found := strings.Cut(rest, "{}")
		p.text.WriteString(before)
		if !found {
			return
		}
		value := any("{}") // one too few: seen on the page
		if len(values) > 0 {
			value, values = values[0], values[1:]
		}
		_, _ = special.WriteString(&p.text, fmt.Sprint(value))
		rest = after
	}
}

// AddIf writes markup when it is called for.
func (p *Page) AddIf(on bool, markup Fixed, values ...any) {
	if on {
		p.Add(markup, values...)
	}
}

func (p *Page) String() string { return p.text.String() }

var special = strings.NewReplacer("\x00", "\ufffd", `"`, "&#34;", "'", "&#39;", "&", "&amp;", "<", "&lt;", ">", "&gt;")
