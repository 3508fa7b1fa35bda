package metrics

import (
	"context"
	"io"
	stdlog "log"
	"net"
	"net/http"
	"net/netip"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"capagent/internal/quote"
	"capagent/service/control"
)

// question turns a function without an answer but its error into a flight.
func (s *Server) question(ctx context.Context, ask func() error) *flight[struct{}] {
	return newFlight(ctx, &s.calls, func(context.Context) (struct{}, error) { return struct{}{}, ask() })
}

// handler answers GET and HEAD of three paths, and nothing else.
func (s *Server) handler(ctx context.Context, status *flight[control.Status]) http.Handler {
	healthy, ready := s.question(ctx, s.opts.Healthy), s.question(ctx, s.opts.Ready)
	loopback := s.opts.Config.Loopback()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.calls.enter() {
			say(w, http.StatusServiceUnavailable, errEnding.Error())
			return
		}
		defer s.calls.leave()
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		if loopback && !ownHost(r.Host) {
			say(w, http.StatusMisdirectedRequest, "ask for this machine by its address or as localhost")
			return
		}
		var answer func()
		switch r.URL.Path {
		case "/metrics":
			answer = func() { s.metrics(w, r, status) }
		case "/-/healthy":
			answer = func() { s.check(w, r, healthy, http.StatusInternalServerError, "not healthy: ") }
		case "/-/ready":
			answer = func() { s.check(w, r, ready, http.StatusServiceUnavailable, "not ready: ") }
		default:
			say(w, http.StatusNotFound, "there are /metrics, /-/healthy and /-/ready")
			return
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			say(w, http.StatusMethodNotAllowed, "only GET and HEAD")
			return
		}
		answer()
	})
}

// metrics gives what there is: an agent that does not answer is a number, too.
func (s *Server) metrics(w http.ResponseWriter, r *http.Request, status *flight[control.Status]) {
	registry, err := s.registry(r.Context(), status)
	if err != nil {
		say(w, http.StatusInternalServerError, s.clean(err.Error()))
		return
	}
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError,
		ErrorLog:      stdlog.New(httpLog{s.opts.Log}, "", 0),
	}).ServeHTTP(w, r)
}

// check answers a question of health. An agent that does not answer it in time is not.
func (s *Server) check(w http.ResponseWriter, r *http.Request, f *flight[struct{}], status int, what string) {
	if _, err := f.get(r.Context()); err != nil {
		say(w, status, s.clean(what+err.Error()))
		return
	}
	say(w, http.StatusOK, "ok")
}

// clean is text on one line, without secrets.
func (s *Server) clean(text string) string {
	if s.opts.Redactor != nil {
		text = s.opts.Redactor.String(text)
	}
	return quote.Text(text)
}

func say(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text+"\n")
}

// ownHost says that a Host header names this machine. A web page that had its own
// name point to loopback can't send such a one.
func ownHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if n := len(host); n > 1 && host[0] == '[' && host[n-1] == ']' {
		host = host[1 : n-1]
	}
	_, err := netip.ParseAddr(host)
	return err == nil || host == "localhost" || host == ""
}
