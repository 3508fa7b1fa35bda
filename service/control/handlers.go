package control

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"capagent/internal/ledger"
	"capagent/internal/quote"
	"capagent/service"
)

// handler answers each path by the method that it has.
func (s *Server) handler(b Backend) http.Handler {
	mux := http.NewServeMux()
	route := func(method, path string, c call) {
		mux.HandleFunc(method+" "+path, s.guarded(c))
		mux.HandleFunc(path, s.guarded(func(_ *http.Request, out *reply) error {
			out.w.Header().Set("Allow", method)
			return &Error{Status: http.StatusMethodNotAllowed, Text: "expected " + method}
		}))
	}
	route("GET", "/v1/status", status(b))
	route("GET", "/v1/captures", list(b))
	route("GET", "/v1/captures/{id}", show(b))
	route("GET", "/v1/sightings", find(b))
	route("POST", "/v1/retry", retry(b))
	route("POST", "/v1/reload", reload(b))
	route("POST", "/v1/rotate", rotate(b))
	route("POST", "/v1/trigger", trigger(b))
	route("GET", "/v1/triggers/{id}", triggered(b))
	route("POST", "/v1/verify", s.verify(b))
	mux.HandleFunc("/", s.guarded(func(r *http.Request, _ *reply) error {
		return &Error{Status: http.StatusNotFound, Text: "no such call: " + quote.Path(r.URL.Path)}
	}))
	return mux
}

func status(b Backend) call {
	return func(r *http.Request, out *reply) error {
		v, err := b.Status(r.Context())
		if err != nil {
			return err
		}
		return out.object(http.StatusOK, v.whole())
	}
}

func list(b Backend) call {
	return func(r *http.Request, out *reply) error {
		filter, err := readFilter(r.URL.Query())
		if err != nil {
			return err
		}
		if err := out.begin(); err != nil {
			return err
		}
		for c, err := range b.Ledger().List(r.Context(), filter) {
			if err != nil {
				return err
			}
			view, err := service.Shown(r.Context(), b.Ledger(), c)
			if err != nil {
				return err
			}
			if err := out.line(view); err != nil {
				return err
			}
		}
		return out.flush()
	}
}

// readFilter reads what writeFilter wrote.
func readFilter(q url.Values) (f ledger.Filter, err error) {
	for key, values := range q {
		if key != "state" && len(values) > 1 {
			return f, badRequest("%s: given twice", quote.Path(key))
		}
		switch value := values[0]; key {
		case "state":
			for _, v := range values {
				if !slices.Contains(ledger.States, ledger.State(v)) {
					return f, badRequest("state %s: no such state", quote.Path(v))
				}
				f.States = append(f.States, ledger.State(v))
			}
		case "case":
			f.Case = value
		case "source":
			f.Source = value
		case "destination":
			f.Destination = value
		case "ids":
			f.IDs, err = readIDs(value)
		case "after":
			f.After, err = strconv.ParseInt(value, 10, 64)
		case "limit":
			f.Limit, err = strconv.Atoi(value)
		case "newest":
			f.Newest, err = strconv.ParseBool(value)
		case "flagged":
			f.Flagged, err = strconv.ParseBool(value)
		default:
			return f, badRequest("%s: no such parameter", quote.Path(key))
		}
		if err != nil || f.Limit < 0 || f.After < 0 {
			return f, badRequest("%s: not understood: %s", key, quote.Path(values[0]))
		}
	}
	return f, nil
}

func readIDs(text string) ([]int64, error) {
	ids := []int64{}
	for one := range strings.SplitSeq(text, ",") {
		id, err := strconv.ParseInt(one, 10, 64)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

func writeIDs(ids []int64) string {
	var b strings.Builder
	for i, id := range ids {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.FormatInt(id, 10))
	}
	return b.String()
}

func writeFilter(f ledger.Filter) string {
	q := url.Values{}
	for _, s := range f.States {
		q.Add("state", string(s))
	}
	set := func(key, value string) {
		if value != "" && value != "0" && value != "false" {
			q.Set(key, value)
		}
	}
	set("ids", writeIDs(f.IDs))
	set("case", f.Case)
	set("source", f.Source)
	set("destination", f.Destination)
	set("after", strconv.FormatInt(f.After, 10))
	set("limit", strconv.Itoa(f.Limit))
	set("newest", strconv.FormatBool(f.Newest))
	set("flagged", strconv.FormatBool(f.Flagged))
	return q.Encode()
}

func show(b Backend) call {
	return func(r *http.Request, out *reply) error {
		v, err := lookup(r.Context(), b.Ledger(), r.PathValue("id"))
		if err != nil {
			return err
		}
		return out.object(http.StatusOK, v)
	}
}

func lookup(ctx context.Context, l *ledger.Ledger, id string) (service.View, error) {
	c, err := l.Lookup(ctx, id)
	if err != nil {
		return service.View{}, err
	}
	return service.FullView(ctx, l, c)
}

// selection is what retry and verify are given.
type selection struct {
	IDs []int64 `json:"ids,omitempty"`
	All bool    `json:"all,omitempty"`
}

func (s selection) check() error {
	for _, id := range s.IDs {
		if id <= 0 {
			return badRequest("ids: %d is no capture's number", id)
		}
	}
	if s.All && len(s.IDs) > 0 {
		return badRequest("ids and all exclude each other")
	}
	return nil
}

// released is what retry answers.
type released struct {
	Released int `json:"released"` // captures that may now be tried at once and could not before
}

func retry(b Backend) call {
	return func(r *http.Request, out *reply) error {
		var what selection
		if err := body(r, out, &what); err != nil {
			return err
		}
		if err := what.check(); err != nil {
			return err
		}
		n, err := b.Retry(r.Context(), what.IDs, what.All)
		if err != nil {
			return err
		}
		return out.object(http.StatusOK, released{n})
	}
}

// reloaded is what reload answers.
type reloaded struct {
	Reloaded bool `json:"reloaded"`
}

func reload(b Backend) call {
	return func(r *http.Request, out *reply) error {
		if err := body(r, out, &struct{}{}); err != nil {
			return err
		}
		if err := b.Reload(r.Context()); err != nil {
			if r.Context().Err() != nil {
				return err
			}
			return &Error{Status: http.StatusUnprocessableEntity, Text: fmt.Sprint(err), Hint: asError(err).Hint}
		}
		return out.object(http.StatusOK, reloaded{true})
	}
}

// rotation is what rotate is given.
type rotation struct {
	Name string `json:"name,omitempty"` // "": every live capture
}

// rotated is what it answers.
type rotated struct {
	Rotated []Rotated `json:"rotated"`
}

func rotate(b Backend) call {
	return func(r *http.Request, out *reply) error {
		var what rotation
		if err := body(r, out, &what); err != nil {
			return err
		}
		all, err := b.Rotate(r.Context(), what.Name)
		if err != nil {
			return err
		}
		return out.object(http.StatusOK, rotated{all})
	}
}

// verify reads every file, so it is done once at a time.
func (s *Server) verify(b Backend) call {
	one := make(chan struct{}, 1)
	return func(r *http.Request, out *reply) error {
		var what selection
		if err := body(r, out, &what); err != nil {
			return err
		}
		if err := what.check(); err != nil {
			return err
		}
		select {
		case one <- struct{}{}:
			defer func() { <-one }()
		default:
			return &Error{Status: http.StatusLocked, Text: "the agent is verifying already", Hint: "wait for that to end"}
		}
		if err := out.begin(); err != nil {
			return err
		}
		return verify(r.Context(), b.Ledger(), what.IDs, out)
	}
}

func verify(ctx context.Context, l *ledger.Ledger, ids []int64, out *reply) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	opts := service.VerifyOptions{OnCapture: func(e service.VerifyEntry) {
		if err := errors.Join(out.line(e), out.flush()); err != nil {
			cancel(err) // nobody listens any more
		}
	}}
	if len(ids) > 0 {
		opts.IDs = ids
	}
	result, err := service.Verify(ctx, l, opts)
	if err != nil {
		return err
	}
	return errors.Join(out.line(result), out.flush())
}
