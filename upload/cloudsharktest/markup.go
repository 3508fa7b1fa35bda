package cloudsharktest

import (
	"net/url"

	"capagent/internal/markup"
)

// document puts a page around what body writes.
func document(title string, body func(*markup.Page)) string {
	var p markup.Page
	p.Add(`<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>{} · capagent sandbox</title>
<link rel="icon" href="/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/style.css">
</head>
<body>
<header class="bar">
<a class="brand" href="/"><img src="/icon.svg" alt="" width="28" height="28"><span>capagent sandbox</span></a>
<p>a local stand-in for CloudShark</p>
</header>
<main>
`, title)
	body(&p)
	p.Add(`
</main>
<footer>capagent sandbox: a local stand-in for CloudShark, made to try capagent without an account.</footer>
</body>
</html>
`)
	return p.String()
}

func messageText(title, text string) string {
	return document(title, func(p *markup.Page) {
		p.Add(`<section class="card empty">
<h1>{}</h1>
<p>{}</p>
<p><a class="button" href="/">All captures</a></p>
</section>
`, title, text)
	})
}

func addTags(p *markup.Page, tags []string) {
	for _, tag := range tags {
		p.Add(`<a class="tag" href="/?tag={}">{}</a> `, url.QueryEscape(tag), clean(tag, false))
	}
}

func (l listing) text() string {
	return document("Captures", func(p *markup.Page) {
		p.Add(`<div class="head">
<h1>Captures</h1>
<p class="sub">{} stored, {}</p>
<form class="search" action="/" method="get" role="search">
<input type="search" name="q" value="{}" maxlength="255" placeholder="Name or tag" aria-label="Search by name or tag">
<button>Search</button>
</form>
</div>
`, countText(l.Stored), sizeText(l.Bytes), l.Query)
		if l.Query != "" || l.Tag != "" {
			l.addChosen(p)
		}
		switch {
		case len(l.Sessions) > 0:
			l.addSessions(p)
			l.addPages(p)
		case l.Stored > 0:
			p.Add(`<section class="card empty">
<h2>Nothing matches</h2>
<p>No stored capture has that name or tag.</p>
</section>
`)
		default:
			p.Add(`<section class="card empty">
<h2>No captures yet</h2>
<p>Upload one, and it appears here with the link that the agent prints:</p>
<pre>capagent upload FILE.pcap</pre>
<p>The sandbox printed the configuration to use when it started.</p>
</section>
`)
		}
	})
}

func (l listing) addChosen(p *markup.Page) {
	what := "captures"
	if l.Total == 1 {
		what = "capture"
	}
	p.Add(`<p class="chosen">{} {}
`, countText(l.Total), what)
	p.AddIf(l.Query != "", `with <b>{}</b> in the name or a tag`, clean(l.Query, false))
	p.AddIf(l.Query != "" && l.Tag != "", ` and `)
	p.AddIf(l.Tag != "", ` tagged <span class="tag">{}</span>`, clean(l.Tag, false))
	p.Add(`
· <a href="/">show all</a></p>
`)
}

func (l listing) addSessions(p *markup.Page) {
	p.Add(`<div class="card flush">
<table class="list">
<thead><tr><th>Name</th><th class="num">Packets</th><th class="num">Size</th><th>First packet</th><th>Uploaded</th></tr></thead>
<tbody>
`)
	for _, s := range l.Sessions {
		p.Add(`<tr>
<td class="name"><a href="/captures/{}">{}</a>
`, s.ID, clean(s.Filename, false))
		if len(s.Tags) > 0 {
			p.Add(`<div class="tags">`)
			addTags(p, s.Tags)
			p.Add(`</div>`)
		}
		p.Add(`</td>
<td class="num" data-label="packets">{}</td>
<td class="num" data-label="size">{}</td>
<td class="when" data-label="first packet">`, countText(s.Packets), sizeText(s.Size))
		if day := dayText(s.First); day != "" {
			p.Add(`{}`, day)
		} else {
			p.Add(`<span class="none">none</span>`)
		}
		p.Add(`</td>
<td class="when" data-label="uploaded">{}</td>
</tr>
`, dayText(s.Created))
	}
	p.Add(`</tbody>
</table>
</div>
`)
}

func (l listing) addPages(p *markup.Page) {
	if l.Pages <= 1 {
		return
	}
	p.Add(`<nav class="pages" aria-label="Pages">
`)
	if l.Page > 1 {
		p.Add(`<a class="button" rel="prev" href="{}">‹ Newer</a>`, l.link(-1))
	} else {
		p.Add(`<span class="button off">‹ Newer</span>`)
	}
	p.Add(`
<span>{}–{} of {}</span>
`, countText(l.From), countText(l.To), countText(l.Total))
	if l.Page < l.Pages {
		p.Add(`<a class="button" rel="next" href="{}">Older ›</a>`, l.link(1))
	} else {
		p.Add(`<span class="button off">Older ›</span>`)
	}
	p.Add(`
</nav>`)
}
