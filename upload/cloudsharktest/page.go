package cloudsharktest

import (
	"embed"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
)

//go:embed web
var web embed.FS

const (
	perPage   = 50
	maxQuery  = 1024 // bytes of ?q=, ?tag= and ?filter= that are looked at
	pageRules = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

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
		s.message(w, http.StatusMisdirectedRequest, "Wrong name", "The sandbox answers under localhost and 127.0.0.1 only.")
		return
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		h.Set("Allow", "GET, HEAD")
		s.message(w, http.StatusMethodNotAllowed, "Read only", "This page can only be read.")
		return
	}
	switch r.URL.Path {
	case "/":
		s.listPage(w, r)
	case "/style.css":
		s.asset(w, "web/style.css", "text/css; charset=utf-8")
	case "/icon.svg", "/favicon.ico":
		s.asset(w, "web/icon.svg", "image/svg+xml")
	default:
		rest, ok := strings.CutPrefix(r.URL.Path, "/captures/")
		id, download := strings.CutSuffix(rest, "/download")
		session, found := s.store.get(id)
		switch {
		case !ok || !found:
			s.message(w, http.StatusNotFound, "Not found", "There is no such page or capture here.")
		case download:
			s.downloadPage(w, r, session)
		default:
			s.capturePage(w, r, session)
		}
	}
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

func (s *Server) asset(w http.ResponseWriter, name, kind string) {
	data, err := web.ReadFile(name)
	if err != nil {
		panic(err) // embedded: cannot happen
	}
	w.Header().Set("Content-Type", kind)
	_, _ = w.Write(data)
}

func (s *Server) message(w http.ResponseWriter, status int, title, text string) {
	s.render(w, status, messageText(title, text))
}

// render sends a page. Whatever it is made of, a token in it is replaced: a
// capture of an upload over plain HTTP has one in its packets.
func (s *Server) render(w http.ResponseWriter, status int, page string) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte((&call{s: s}).scrub(page)))
}

// listing is the page of sessions.
type listing struct {
	Sessions      []Session
	Query, Tag    string
	Stored, Total int // of all sessions, of those that match
	Bytes         int64
	Page, Pages   int
	From, To      int
}

// link is the address of the page step pages further.
func (l listing) link(step int) string {
	v := url.Values{"page": {strconv.Itoa(l.Page + step)}}
	if l.Query != "" {
		v.Set("q", l.Query)
	}
	if l.Tag != "" {
		v.Set("tag", l.Tag)
	}
	return "/?" + v.Encode()
}

func (s *Server) listPage(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	l := listing{Query: strings.TrimSpace(limit(q.Get("q"))), Tag: limit(q.Get("tag"))}
	l.Stored, l.Bytes = s.store.count()
	needle := strings.ToLower(l.Query)
	match := func(s *Session) bool {
		if l.Tag != "" && !hasAll(s.Tags, []string{l.Tag}) {
			return false
		}
		if needle == "" || strings.Contains(strings.ToLower(s.Filename), needle) {
			return true
		}
		for _, tag := range s.Tags {
			if strings.Contains(strings.ToLower(tag), needle) {
				return true
			}
		}
		return false
	}
	asked, err := strconv.ParseInt(q.Get("page"), 10, 64)
	if err != nil || asked < 1 {
		asked = 1
	}
	page := int(min(asked, 1+int64(l.Stored/perPage)))
	l.Sessions, l.Total = s.store.find(match, (page-1)*perPage, perPage)
	l.Pages = max(1, (l.Total+perPage-1)/perPage)
	if page > l.Pages {
		page = l.Pages
		l.Sessions, _ = s.store.find(match, (page-1)*perPage, perPage)
	}
	l.Page = page
	l.From, l.To = (page-1)*perPage+1, (page-1)*perPage+len(l.Sessions)
	s.render(w, http.StatusOK, l.text())
}

func limit(text string) string { return text[:min(len(text), maxQuery)] }

// capturePage is the page of one session.
type capturePage struct {
	Session
	Summary summary
	Filter  string
	Marked  int64 // packet that the filter names, or 0
	Shown   int64 // packets in the table
	Span    string
}

func (s *Server) capturePage(w http.ResponseWriter, r *http.Request, session Session) {
	p := capturePage{Session: session, Filter: limit(r.URL.Query().Get("filter")), Span: "none"}
	if session.Packets > 0 {
		p.Span = spanText(session.Last.Sub(session.First))
	}
	if n, ok := strings.CutPrefix(strings.ReplaceAll(p.Filter, " ", ""), "frame.number=="); ok {
		p.Marked, _ = strconv.ParseInt(n, 10, 64)
	}
	if f, err := s.store.open(session.ID); err == nil {
		p.Summary = summarise(f, session.Annotations)
		_ = f.Close()
	} else {
		p.Summary.Problem = "The capture's file is gone."
	}
	p.Shown = int64(len(p.Summary.Rows))
	s.render(w, http.StatusOK, p.text())
}

func (s *Server) downloadPage(w http.ResponseWriter, r *http.Request, session Session) {
	f, err := s.store.open(session.ID)
	if err != nil {
		s.message(w, http.StatusNotFound, "Not found", "The capture's file is gone.")
		return
	}
	defer f.Close()
	sendCapture(w, r, session, f)
}

// clean makes text from outside fit to be shown: what does not print, or
// changes the direction of what does, becomes a middle dot. What is
// special in HTML, markup escapes.
func clean(s string, lines bool) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' && lines, r == '\t' && lines:
			return r
		case !unicode.IsPrint(r) && r != '\u200d':
			return '·'
		}
		return r
	}, strings.ReplaceAll(s, "\r\n", "\n"))
}

func sizeText(n int64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	v, unit := float64(n), 0
	for v >= 999.5 && unit < 5 {
		v /= 1000
		unit++
	}
	digits := 0
	if v < 9.95 {
		digits = 1
	}
	return fmt.Sprintf("%.*f %s", digits, v, []string{"B", "kB", "MB", "GB", "TB", "PB"}[unit])
}

// countText writes a number with its thousands apart.
func countText(v any) string {
	digits := fmt.Sprint(v)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

func dayText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04")
}

func momentText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05.000000 UTC")
}

func spanText(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%.3g ms", float64(d)/1e6)
	case d < time.Minute:
		return fmt.Sprintf("%.3g s", d.Seconds())
	default:
		return d.Round(time.Second).String()
	}
}
