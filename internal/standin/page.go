package standin

import (
	"embed"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

//go:embed web
var web embed.FS

const (
	maxRows   = 200 // of a section on the page
	maxRecent = 50  // requests on the page
	maxCell   = 300 // bytes
	pageRules = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

// Section is a table on the page. A cell that begins with "https://" or "http://" is
// a link.
type Section struct {
	Title string
	Head  []string
	Rows  [][]string
	Empty string // what is said without rows
}

type page struct {
	Service, Text string
	Sections      []Section
}

// servePage serves the page. It only reads.
func (s *Server) servePage(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", pageRules)
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Cache-Control", "no-store")
	switch {
	case s.opts.LoopbackNames && !loopbackName(r.Host):
		s.render(w, http.StatusMisdirectedRequest, page{Text: "The sandbox answers under localhost and 127.0.0.1 only."})
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		h.Set("Allow", "GET, HEAD")
		s.render(w, http.StatusMethodNotAllowed, page{Text: "This page can only be read."})
	case r.URL.Path == "/":
		s.render(w, http.StatusOK, page{Sections: s.sections()})
	case r.URL.Path == "/style.css":
		data, err := web.ReadFile("web/style.css")
		if err != nil {
			panic(err) // embedded: cannot happen
		}
		h.Set("Content-Type", "text/css; charset=utf-8")
		_, _ = w.Write(data)
	default:
		s.render(w, http.StatusNotFound, page{Text: "There is no such page here."})
	}
}

func (s *Server) sections() []Section {
	var out []Section
	if s.opts.Page != nil {
		out = s.opts.Page()
	}
	requests := Section{Title: "Requests", Head: []string{"Time", "Request", "Status", "Fault"}, Empty: "None yet."}
	list := s.Requests()
	list = list[max(0, len(list)-maxRecent):]
	slices.Reverse(list)
	for _, r := range list {
		requests.Rows = append(requests.Rows, []string{r.At.UTC().Format(time.DateTime), r.Method + " " + r.Target, strconv.Itoa(r.Status), r.Fault})
	}
	out = append(out, requests)
	for i := range out {
		out[i].Rows = out[i].Rows[:min(len(out[i].Rows), maxRows)]
	}
	return out
}

// render fills the page in. Whatever it is made of, a secret in it is replaced.
func (s *Server) render(w http.ResponseWriter, status int, data page) {
	data.Service = s.opts.Name
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(s.redact.String(data.text())))
}

// loopbackName says whether a Host header names this machine as only this machine can.
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

// clean makes text from outside fit to be shown: what does not print, or changes the
// direction of what does, becomes a middle dot. What is special in HTML, markup
// escapes.
func clean(s string) string {
	if len(s) > maxCell {
		s = strings.ToValidUTF8(s[:maxCell], "") + "…"
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '·'
		}
		return r
	}, s)
}
