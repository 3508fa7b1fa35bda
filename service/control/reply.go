package control

import (
	"bufio"
	"bytes"
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/rs/zerolog"

	"capagent/internal/config"
	"capagent/internal/failure"
	"capagent/internal/ledger"
)

// Error is a failure as the agent told it.
type Error struct {
	Status int    `json:"-"` // of HTTP
	Text   string `json:"error"`
	Hint   string `json:"hint"`
	// RetryAfter is told in the header of that name; 0: it is not.
	RetryAfter time.Duration `json:"-"`
}

func (e *Error) Error() string { return e.Text }

// Is finds again what the agent's error was before it became text.
func (e *Error) Is(target error) bool {
	switch e.Status {
	case http.StatusNotFound:
		return target == ledger.ErrNotFound
	case http.StatusConflict:
		return target == ledger.ErrAmbiguous
	case http.StatusServiceUnavailable:
		return target == ErrGone
	default:
		return false
	}
}

func badRequest(format string, args ...any) error {
	return &Error{Status: http.StatusBadRequest, Text: fmt.Sprintf(format, args...)}
}

// asError finds the status for an error of the backend.
func asError(err error) *Error {
	e := &Error{Status: http.StatusInternalServerError}
	var given *Error
	var mistakes config.Errors
	var mistake *config.Error
	switch {
	case errors.As(err, &given):
		*e = *given
	case errors.Is(err, context.Canceled):
		return &Error{Status: http.StatusServiceUnavailable, Text: "the agent is stopping"}
	case errors.Is(err, ledger.ErrNotFound):
		e.Status = http.StatusNotFound
	case errors.Is(err, ledger.ErrAmbiguous):
		e.Status = http.StatusConflict
	case errors.Is(err, ledger.ErrBusy):
		e.Status = http.StatusLocked
	case errors.As(err, &mistakes), errors.As(err, &mistake):
		e.Status = http.StatusUnprocessableEntity
	}
	e.Text = err.Error()
	if f := failure.As(err); f.Hint != "" {
		e.Hint = f.Hint
	}
	return e
}

// reply is the answer to one call: one object, or lines.
type reply struct {
	w     http.ResponseWriter // for its header
	to    io.Writer           // the same, for what is sent
	ctl   *http.ResponseController
	mask  func(string) string
	lines *bufio.Writer // nil until the first one
	sent  bool          // the status is out
}

func (r *reply) encode(v any) ([]byte, error) {
	var b bytes.Buffer
	out := json.NewEncoder(&b)
	out.SetEscapeHTML(false)
	if err := out.Encode(v); err != nil {
		return nil, err
	}
	return []byte(r.mask(b.String())), nil
}

// object answers with one object.
func (r *reply) object(status int, v any) error {
	text, err := r.encode(v)
	if err != nil {
		return err
	}
	r.sent = true
	r.w.Header().Set("Content-Type", "application/json")
	r.w.WriteHeader(status)
	_, err = r.Write(text)
	return err
}

// begin starts an answer of lines, so that the caller knows at once that it comes.
func (r *reply) begin() error {
	r.sent = true
	r.w.Header().Set("Content-Type", "application/jsonl")
	r.w.WriteHeader(http.StatusOK)
	r.lines = bufio.NewWriterSize(r, 32<<10)
	return r.flush()
}

// line adds a line. It may stay here until flush.
func (r *reply) line(v any) error {
	text, err := r.encode(v)
	if err == nil {
		_, err = r.lines.Write(text)
	}
	return err
}

func (r *reply) flush() error {
	if err := r.lines.Flush(); err != nil {
		return err
	}
	return r.ctl.Flush()
}

// Write sends a piece. A caller who does not take it in time is left.
func (r *reply) Write(p []byte) (int, error) {
	if err := r.ctl.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	return r.to.Write(p)
}

// fail answers with err, or ends with it the lines that have begun.
func (r *reply) fail(err error) {
	e := asError(err)
	if !r.sent {
		if e.RetryAfter > 0 {
			r.w.Header().Set("Retry-After", strconv.FormatInt(int64((e.RetryAfter+time.Second-1)/time.Second), 10))
		}
		_ = r.object(e.Status, e) // who can't be told has gone
		return
	}
	if r.lines == nil || errors.Join(r.line(e), r.flush()) != nil {
		panic(http.ErrAbortHandler) // a whole answer must not be feigned
	}
}

// call is the work of one route. An error is answered in its place.
type call func(r *http.Request, out *reply) error

// guarded is c behind everything that is the same for all calls.
func (s *Server) guarded(c call) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !s.enter() {
			panic(http.ErrAbortHandler)
		}
		defer s.calls.Done()
		out := &reply{w: w, to: w, ctl: http.NewResponseController(w), mask: func(text string) string { return text }}
		if s.Redactor != nil {
			out.mask = s.Redactor.String
		}
		log := s.log.With().Str("method", r.Method).Str("path", r.URL.Path).Logger()
		defer func() {
			cause := recover()
			if cause == nil {
				return
			}
			if cause != http.ErrAbortHandler { //nolint:errorlint // what was panicked with, not an error that came up
				log.Error().Bytes("stack", debug.Stack()).Msgf("panic: %v", cause)
			}
			if out.sent {
				panic(http.ErrAbortHandler)
			}
			out.fail(errors.New("the agent met a mistake of its own; its log says more"))
		}()
		level := zerolog.DebugLevel
		if r.Method != http.MethodGet {
			level = zerolog.InfoLevel // somebody steers
		}
		err := s.admit(r)
		if err == nil {
			err = c(r, out)
		}
		if err != nil {
			log.WithLevel(level).Err(err).Msg("call failed")
			out.fail(err)
			return
		}
		log.WithLevel(level).Msg("call answered")
	}
}

// admit refuses what no command of ours sends.
func (s *Server) admit(r *http.Request) error {
	forbidden := func(text string) error { return &Error{Status: http.StatusForbidden, Text: text} }
	if r.Header.Get("Origin") != "" {
		return forbidden("this is not for web pages")
	}
	if s.host == "" {
		return nil
	}
	// A name that points to this machine may belong to a web page's server.
	if r.Host != s.host {
		return forbidden("wrong host")
	}
	if subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), []byte("Bearer "+s.listener.Token)) != 1 {
		return &Error{Status: http.StatusUnauthorized, Text: "the token of control.token must be shown"}
	}
	return nil
}

// body reads what a call was given into v: one object of known keys, or nothing.
func body(r *http.Request, out *reply, v any) error {
	if err := out.ctl.SetReadDeadline(time.Now().Add(bodyTimeout)); err != nil {
		return err
	}
	text, err := io.ReadAll(http.MaxBytesReader(out.w, r.Body, maxBody))
	var tooLong *http.MaxBytesError
	switch {
	case errors.As(err, &tooLong):
		return &Error{Status: http.StatusRequestEntityTooLarge, Text: fmt.Sprintf("the request is longer than %d bytes", maxBody)}
	case err != nil:
		return badRequest("the request did not arrive: %v", err)
	}
	// From here on only the caller's going away is waited for.
	if err := out.ctl.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	if len(bytes.TrimSpace(text)) == 0 {
		return nil
	}
	in := json.NewDecoder(bytes.NewReader(text))
	in.DisallowUnknownFields()
	if err := in.Decode(v); err != nil {
		return badRequest("expected a JSON object: %v", err)
	}
	if _, err := in.Token(); !errors.Is(err, io.EOF) {
		return badRequest("expected one JSON object")
	}
	return nil
}
