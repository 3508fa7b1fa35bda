package standin

import (
	"strings"

	"capagent/internal/markup"
)

func (d page) text() string {
	var p markup.Page
	p.Add(`<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>{} · capagent sandbox</title>
<link rel="stylesheet" href="/style.css">
</head>
<body>
<header class="bar">
<a class="brand" href="/"><span>capagent sandbox</span></a>
<p>a local stand-in for {}</p>
</header>
<main>
`, d.Service, d.Service)
	p.AddIf(d.Text != "", `<h1>{}</h1>
`, d.Text)
	for _, s := range d.Sections {
		s.add(&p)
	}
	p.Add(`</main>
<footer>Everything here is made up, stays on this machine, and ends with the sandbox.</footer>
</body>
</html>
`)
	return p.String()
}

func (s Section) add(p *markup.Page) {
	p.Add(`<div class="card flush">
<h2>{} <small>{}</small></h2>
`, s.Title, len(s.Rows))
	if len(s.Rows) == 0 {
		p.Add(`<p class="empty">{}</p>
</div>
`, s.Empty)
		return
	}
	p.Add(`<div class="scroll"><table class="list">
<thead><tr>`)
	for _, h := range s.Head {
		p.Add(`<th>{}</th>`, h)
	}
	p.Add(`</tr></thead>
<tbody>
`)
	for _, r := range s.Rows {
		p.Add(`<tr>`)
		for _, cell := range r {
			if strings.HasPrefix(cell, "https://") || strings.HasPrefix(cell, "http://") {
				p.Add(`<td class="value"><a href="{}" rel="noreferrer">{}</a></td>`, cell, clean(cell))
			} else {
				p.Add(`<td class="value">{}</td>`, clean(cell))
			}
		}
		p.Add(`</tr>
`)
	}
	p.Add(`</tbody>
</table></div>
</div>
`)
}
