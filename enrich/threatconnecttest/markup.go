package threatconnecttest

import (
	"fmt"
	"time"

	"capagent/internal/markup"
)

func (o overview) page() string {
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
<p>a local stand-in for ThreatConnect</p>
</header>
<main>
`, o.Title)
	if o.Text != "" {
		p.Add(`<h1>{}</h1>
<p>{}</p>
<p><a href="/">All indicators</a></p>
`, o.Title, o.Text)
	} else {
		o.addIndicators(&p)
		o.addIncidents(&p)
		o.addObservations(&p)
		o.addRequests(&p)
	}
	p.Add(`</main>
<footer>capagent sandbox: a local stand-in for ThreatConnect, made to try capagent without an account.</footer>
</body>
</html>
`)
	return p.String()
}

const (
	none = `<span class="none">none</span>`

	tableEnd = `</tbody>
</table></div>
</div>

`
	noTable = `<p class="empty">None yet.</p>
</div>

`
)

// addNumber writes a number, or that there is none.
func addNumber[T int | float64](p *markup.Page, n T) {
	if n == 0 {
		p.Add(none)
	} else {
		p.Add(`{}`, n)
	}
}

func (o overview) addIndicators(p *markup.Page) {
	p.Add(`<div class="head">
<h1>Indicators</h1>
<p class="sub">{} from {} owners`, o.Total, len(o.Owners))
	p.AddIf(o.Total > len(o.Indicators), `, the first {} are shown`, len(o.Indicators))
	p.Add(`</p>
</div>
<div class="card flush"><div class="scroll">
<table class="list">
<thead><tr><th>Type</th><th>Value</th><th>Owner</th><th class="num">Rating</th><th class="num">Confidence</th><th>Groups</th><th class="num">Observed</th></tr></thead>
<tbody>
`)
	for _, i := range o.Indicators {
		p.Add(`<tr id="/details/indicators/{}/overview"`, i.ID)
		p.AddIf(i.Inactive, ` class="off"`)
		p.Add(`>
<td>{}</td>
<td class="value">{}`, clean(i.Type), clean(i.Value))
		p.AddIf(i.Inactive, ` (inactive)`)
		p.Add(`</td>
<td>{}</td>
<td class="num r{}">`, clean(i.Owner), fmt.Sprintf("%.0f", i.Rating))
		addNumber(p, i.Rating)
		p.Add(`</td>
<td class="num">`)
		addNumber(p, i.Confidence)
		p.Add(`</td>
<td>`)
		for _, g := range i.Groups {
			p.Add(`<span class="tag" title="{}">{}</span> `, clean(g.Type), clean(g.Name))
		}
		p.Add(`</td>
<td class="num">{}</td>
</tr>
`, i.Observations)
	}
	p.Add(tableEnd)
}

func (o overview) addIncidents(p *markup.Page) {
	p.Add(`<div class="card flush">
<h2>Incidents <small>what clients made</small></h2>
`)
	if len(o.Incidents) == 0 {
		p.Add(noTable)
		return
	}
	p.Add(`<div class="scroll"><table class="list">
<thead><tr><th>Made</th><th>Name</th><th>Status</th><th class="num">Indicators</th><th>Attributes</th></tr></thead>
<tbody>
`)
	for _, i := range o.Incidents {
		p.Add(`<tr id="/details/groups/{}/overview">
<td class="when">{}</td><td class="value">{}</td><td>{}</td><td class="num">{}</td>
<td class="value">`, i.ID, moment(i.Created), clean(i.Name), clean(i.Status), len(i.Indicators))
		for _, a := range i.Attributes {
			p.Add(`{}: {}<br>`, clean(a.Type), clean(a.Value))
		}
		p.Add(`</td>
</tr>
`)
	}
	p.Add(tableEnd)
}

func (o overview) addObservations(p *markup.Page) {
	p.Add(`<div class="card flush">
<h2>Observations <small>what clients reported, newest first</small></h2>
`)
	if len(o.Observations) == 0 {
		p.Add(noTable)
		return
	}
	p.Add(`<div class="scroll"><table class="list">
<thead><tr><th>Time</th><th>Type</th><th>Value</th><th>Owner</th><th class="num">Count</th></tr></thead>
<tbody>
`)
	for _, n := range o.Observations {
		p.Add(`<tr><td class="when">{}</td><td>{}</td><td class="value">{}</td><td>{}</td><td class="num">{}</td></tr>
`, moment(n.Time), clean(n.Type), clean(n.Value), clean(n.Owner), n.Count)
	}
	p.Add(tableEnd)
}

func (o overview) addRequests(p *markup.Page) {
	p.Add(`<div class="card flush">
<h2>Requests <small>newest first</small></h2>
`)
	if len(o.Requests) == 0 {
		p.Add(noTable)
		return
	}
	p.Add(`<div class="scroll"><table class="list">
<thead><tr><th>Time</th><th>Request</th><th class="num">Status</th><th>Authentication</th><th>Fault</th></tr></thead>
<tbody>
`)
	for _, r := range o.Requests {
		p.Add(`<tr><td class="when">{}</td><td class="value">{} {}</td><td class="num">`, moment(r.Time), clean(r.Method), clean(short(r.Target)))
		addNumber(p, r.Status)
		p.Add(`</td><td>`)
		if r.Auth != "" {
			p.Add(`{}`, r.Auth)
		} else {
			p.Add(`<span class="warn">refused</span>`)
		}
		p.Add(`</td><td>{}</td></tr>
`, clean(r.Fault))
	}
	p.Add(tableEnd)
}

func moment(t time.Time) string { return t.UTC().Format(time.DateTime) }
