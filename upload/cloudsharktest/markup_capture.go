package cloudsharktest

import (
	"cmp"

	"capagent/internal/markup"
)

func (c capturePage) text() string {
	return document(clean(c.Filename, false), func(p *markup.Page) {
		c.addHead(p)
		p.Add(`
<div class="columns">
`)
		c.addAbout(p)
		c.addProtocols(p)
		p.Add(`</div>

`)
		p.AddIf(c.Comments != "", `<section class="card"><h2>Comments</h2><p class="comments">{}</p></section>

`, clean(c.Comments, true))
		c.addAnnotations(p)
		c.addPackets(p)
	})
}

func (c capturePage) addHead(p *markup.Page) {
	name := clean(c.Filename, false)
	p.Add(`<p class="crumb"><a href="/">Captures</a> › <code>{}</code></p>
<div class="head">
<h1 class="file">{}</h1>
<a class="button main" href="/captures/{}/download">Download</a>
</div>
`, c.ID, name, c.ID)
	if len(c.Tags) > 0 {
		p.Add(`<p class="tags">`)
		addTags(p, c.Tags)
		p.Add(`</p>`)
	}
	if c.Filter != "" {
		p.Add(`
<p class="filter"><span>Filter</span> <code>{}</code>
<small>CloudShark shows the packets that match. The sandbox shows all`, clean(c.Filter, false))
		p.AddIf(c.Marked != 0, ` and marks packet {}`, countText(c.Marked))
		p.Add(`.</small></p>`)
	}
	p.Add(`

<dl class="facts card">
<div><dt>Packets</dt><dd>{}</dd></div>
<div><dt>Size</dt><dd title="{} bytes">{}</dd></div>
<div><dt>Span</dt><dd>{}</dd></div>
<div><dt>Format</dt><dd>{}`, countText(c.Packets), c.Size, sizeText(c.Size), c.Span, c.Format)
	p.AddIf(c.Gzip, `, gzip`)
	p.AddIf(c.Cut, ` <span class="warn">cut off</span>`)
	p.Add(`</dd></div>
<div><dt>Link</dt><dd>{}</dd></div>
</dl>
`, c.Encapsulation)
}

func (c capturePage) addAbout(p *markup.Page) {
	p.Add(`<section class="card">
<h2>About</h2>
<table class="about">
<tr><th>First packet</th><td>{}</td></tr>
<tr><th>Last packet</th><td>{}</td></tr>
<tr><th>Uploaded</th><td>{}</td></tr>
<tr><th>By</th><td>{} ({})</td></tr>
`, cmp.Or(momentText(c.First), "none"), cmp.Or(momentText(c.Last), "none"), momentText(c.Created), clean(c.UserAgent, false), c.Method)
	p.AddIf(c.KeylogSize != 0, `<tr><th>TLS keys</th><td>{} key log</td></tr>
`, sizeText(c.KeylogSize))
	p.Add(`<tr><th>SHA-256</th><td><code class="hash">{}</code></td></tr>
<tr><th>SHA-1</th><td><code class="hash">{}</code></td></tr>
</table>
</section>
`, c.SHA256, c.SHA1)
}

func (c capturePage) addProtocols(p *markup.Page) {
	p.Add(`<section class="card">
<h2>Protocols</h2>
`)
	if len(c.Summary.Protocols) == 0 {
		p.Add(`<p class="none">No packets.</p>`)
	} else {
		p.Add(`<table class="protocols">
`)
		for _, l := range c.Summary.Protocols {
			p.Add(`<tr><th><span class="dot {}"></span>{}</th>
<td class="meter"><progress class="{}" value="{}" max="{}">{} %</progress></td><td class="num">{}</td></tr>
`, l.Class, l.Name, l.Class, l.Packets, c.Summary.Seen, l.Percent, countText(l.Packets))
		}
		p.Add(`</table>
`)
		p.AddIf(c.Summary.More, `<p class="note">of the first {} packets</p>`, countText(c.Summary.Seen))
	}
	p.Add(`
</section>
`)
}

func (c capturePage) addAnnotations(p *markup.Page) {
	if len(c.Annotations) == 0 {
		return
	}
	p.Add(`<section class="card"><h2>Annotations</h2>
<table class="notes">`)
	for _, n := range c.Annotations {
		p.Add(`<tr><th class="num">`)
		if n.Frame <= c.Shown {
			p.Add(`<a href="#p{}">{}</a>`, n.Frame, countText(n.Frame))
		} else {
			p.Add(`{}`, countText(n.Frame))
		}
		p.Add(`</th><td class="comments">{}</td></tr>`, clean(n.Text, true))
	}
	p.Add(`</table>
</section>

`)
}

func (c capturePage) addPackets(p *markup.Page) {
	if len(c.Summary.Rows) == 0 && c.Summary.Problem == "" {
		return
	}
	p.Add(`<section class="card flush">
<h2>Packets`)
	p.AddIf(c.Packets > c.Shown, ` <small>first {} of {}</small>`, countText(c.Shown), countText(c.Packets))
	p.Add(`</h2>
`)
	p.AddIf(c.Summary.Problem != "", `<p class="note warn">{}</p>`, c.Summary.Problem)
	if len(c.Summary.Rows) > 0 {
		p.Add(`<div class="scroll"><table class="packets">
<thead><tr><th class="num">No.</th><th class="num">Time</th><th>Source</th><th>Destination</th><th>Protocol</th><th class="num">Length</th><th>Info</th></tr></thead>
<tbody>
`)
		for _, r := range c.Summary.Rows {
			p.Add(`<tr id="p{}"`, r.No)
			p.AddIf(r.No == c.Marked, ` class="marked"`)
			p.Add(`><td class="num">{}</td><td class="num">{}</td><td>{}</td><td>{}</td><td class="proto"><span class="dot {}"></span>{}</td><td class="num">{}</td><td class="info">{}`,
				r.No, r.Time, r.Source, r.Destination, r.Class, r.Protocol, r.Length, r.Info)
			p.AddIf(r.Note != "", ` <span class="annotation">{}</span>`, clean(r.Note, false))
			p.Add(`</td></tr>
`)
		}
		p.Add(`</tbody>
</table></div>`)
	}
	p.Add(`
</section>`)
}
