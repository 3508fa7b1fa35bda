package threatconnecttest

import (
	"embed"
	"net"
	"net/http"
	"slices"
	"strings"
	"unicode"
)

//go:embed web
var web embed.FS

const (
	maxRows   = 500 // indicators on the page
	maxRecent = 50  // of everything else
	maxTarget = 300 // bytes of a request line
	pageRules = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

// overview is what the page shows; with Text it shows that alone.
type overview struct {
	Title, Text  string
	Total        int
	Owners       []Owner
	Indicators   []Indicator
	Incidents    []Incident
	Observations []Observation
	Requests     []Request
}

// servePage serves the web page. It only reads.
func (s *Server) servePage(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", pageRules)
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Cache-Control", "no-store")
	switch {
	case s.opts.LoopbackNames && !loopbackName(r.Host):
		s.render(w, http.StatusMisdirectedRequest, overview{Title: "Wrong name", Text: "The sandbox answers under localhost and 127.0.0.1 only."})
		return
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		h.Set("Allow", "GET, HEAD")
		s.render(w, http.StatusMethodNotAllowed, overview{Title: "Read only", Text: "This page can only be read."})
		return
	}
	switch r.URL.Path {
	case "/":
		s.render(w, http.StatusOK, s.overview())
	case "/style.css":
		asset(w, "web/style.css", "text/css; charset=utf-8")
	case "/icon.svg", "/favicon.ico":
		asset(w, "web/icon.svg", "image/svg+xml")
	default:
		s.render(w, http.StatusNotFound, overview{Title: "Not found", Text: "There is no such page here."})
	}
}

func (s *Server) overview() overview {
	o := overview{
		Title: "Indicators", Owners: s.Owners(), Indicators: s.Indicators(), Incidents: recent(s.Incidents()),
		Observations: recent(s.Observations()), Requests: recent(s.Requests()),
	}
	o.Total = len(o.Indicators)
	o.Indicators = o.Indicators[:min(len(o.Indicators), maxRows)]
	return o
}

// recent returns the last of a list, the newest first.
func recent[T any](list []T) []T {
	list = list[max(0, len(list)-maxRecent):]
	slices.Reverse(list)
	return list
}

// loopbackName says whether a Host header names this machine as only this
// machine can.
func loopbackName(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.Trim(host, "[]")
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

func asset(w http.ResponseWriter, name, kind string) {
	data, err := web.ReadFile(name)
	if err != nil {
		panic(err) // embedded: cannot happen
	}
	w.Header().Set("Content-Type", kind)
	_, _ = w.Write(data)
}

// render fills the page in. Whatever it is made of, a secret in it is replaced.
func (s *Server) render(w http.ResponseWriter, status int, data overview) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(s.scrub(data.page())))
}

func short(text string) string {
	if len(text) > maxTarget {
		return strings.ToValidUTF8(text[:maxTarget], "") + "…"
	}
	return text
}

// clean makes text from outside fit to be shown: what does not print, or
// changes the direction of what does, becomes a middle dot. What is
// special in HTML, markup escapes.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '·'
		}
		return r
	}, s)
}
