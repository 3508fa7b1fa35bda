package cado

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"capagent/internal/failure"
	"capagent/internal/httpx"
)

// Classes of failures. httpx adds "network", "tls", "redirect" and "canceled",
// the bucket its own.
const (
	ClassBadCredentials = "bad_credentials"
	ClassNoPermission   = "no_permission"
	ClassConflict       = "conflict"
	ClassNotFound       = "not_found"
	ClassBadRequest     = "bad_request"
	ClassBusy           = "busy"
	ClassServerError    = "server_error"
	ClassBadReply       = "bad_reply"
	ClassBadURL         = httpx.ClassBadURL
	ClassUnreadable     = "unreadable"
	ClassChanged        = "changed"
	// ClassRunning is no failure: the platform is still at work.
	ClassRunning = "running"
	// ClassFailed and ClassCancelled are ends that the platform reports.
	ClassFailed    = "import_failed"
	ClassCancelled = "import_cancelled"
)

type class struct {
	kind failure.Kind
	hint string
}

// classes says what each class means for the work, and what a user can do.
var classes = map[string]class{
	ClassBadCredentials: {failure.Pause, "check [cado] api_key: create a new key in the platform's Settings, API, and copy it whole"},
	ClassNoPermission:   {failure.Pause, "give the API key's user a greater role: projects are created by Lead Analysts, evidence is imported by Analysts"},
	ClassConflict:       {failure.Permanent, "the name is taken on the platform; change [cado] project"},
	ClassNotFound:       {failure.Permanent, "the platform does not know it (any more)"},
	ClassBadRequest:     {failure.Permanent, "the platform refuses it; its text says why"},
	ClassBusy:           {failure.Retry, "the platform is busy; the agent tries again"},
	ClassServerError:    {failure.Retry, "the platform has a problem of its own; its log says more"},
	ClassBadReply:       {failure.Retry, "is [cado] url really the platform, with no portal or proxy in between?"},
	ClassBadURL:         {failure.Pause, "check [cado] url and api_version: is this a platform with that version of the API?"},
	ClassUnreadable:     {failure.Retry, ""},
	ClassChanged:        {failure.Permanent, "the file is not what it was when it was recorded; record it again"},
	ClassRunning:        {failure.Retry, "the platform is at work; the agent asks again"},
	ClassFailed:         {failure.Permanent, "look at the pipeline in the platform; `capagent retry` imports again"},
	ClassCancelled:      {failure.Permanent, "somebody cancelled the pipeline in the platform; `capagent retry` imports again"},
}

// Hint says what a user can do about a failure of that class, "" when unknown.
func Hint(class string) string { return classes[class].hint }

func fail(class string, err error) *failure.Error {
	return &failure.Error{Kind: classes[class].kind, Class: class, Hint: classes[class].hint, Err: err}
}

func failf(class, format string, args ...any) *failure.Error {
	return fail(class, fmt.Errorf(format, args...))
}

// maxMessage bounds what is looked at of a platform's text.
const maxMessage = 2 << 10

// envelope is what replies have in common: v3's form, and v2's errors.
type envelope struct {
	Status     text            `json:"status"`
	Message    text            `json:"message"` // v3
	Msg        text            `json:"msg"`     // v2
	Data       json.RawMessage `json:"data"`
	Pagination struct {
		TotalPages number `json:"total_pages"`
		NextToken  text   `json:"next_token"`
	} `json:"pagination"`
}

// judge returns what a success holds, or the failure that a reply stands for:
// in v3 the envelope, in v2 the bare body as its Data (contracts/cado.md 5.1).
func judge(reply *httpx.Reply, v3 bool, scrub func(string) string, now time.Time) (envelope, error) {
	if isClass(reply.Err, httpx.ClassCanceled) {
		return envelope{}, reply.Err
	}
	var e envelope
	err := reply.Err // half a reply is no JSON
	if err == nil && !json.Valid(reply.Body) {
		err = errors.New("no JSON")
	}
	if err == nil { // a list has no envelope: its error does not matter
		_ = json.Unmarshal(reply.Body, &e)
	}
	good := reply.Status/100 == 2
	switch {
	case good && err == nil && v3 && strings.EqualFold(string(e.Status), "success"):
		return e, nil
	case good && err == nil && !v3:
		return envelope{Data: reply.Body}, nil
	case good && reply.Err != nil && len(reply.Body) < maxReply:
		return envelope{}, reply.Err // the connection broke
	case good && reply.Err != nil:
		return envelope{}, failf(ClassBadReply, "answered %d, but %w", reply.Status, reply.Err)
	}
	return envelope{}, refusal(reply, e, err == nil, scrub, now)
}

func refusal(reply *httpx.Reply, e envelope, isJSON bool, scrub func(string) string, now time.Time) error {
	message := string(e.Message)
	if message == "" {
		message = string(e.Msg)
	}
	kind := strings.ToLower(reply.Header.Get("Content-Type"))
	missing := strings.Contains(strings.ToLower(string(reply.Body[:min(len(reply.Body), maxMessage)])), "requested url was not found")
	if !isJSON && strings.HasPrefix(kind, "text/plain") {
		message = string(reply.Body[:min(len(reply.Body), maxMessage)])
	}
	message = line(scrub(message), maxText) // scrubbed before it is cut: half a key is half a secret
	f := fail(classify(reply.Status, isJSON && !missing), nil)
	switch {
	case message != "":
		f.Err = fmt.Errorf("the platform says %d: %s", reply.Status, strconv.QuoteToGraphic(message))
	case isJSON && reply.Status/100 == 2:
		f.Err = fmt.Errorf("answered %d without saying that it succeeded", reply.Status)
	case isJSON:
		f.Err = fmt.Errorf("answered %d without a message", reply.Status)
	default:
		f.Err = fmt.Errorf("answered %d with %s instead of the platform's JSON", reply.Status, kindOf(kind))
	}
	if f.Kind == failure.Retry {
		f.RetryAfter = httpx.RetryAfter(reply.Header, now)
	}
	return f
}

// classify gives the class of an answer that is no success. known is set when it
// is in the platform's own form.
func classify(status int, known bool) string {
	switch {
	case status == http.StatusUnauthorized:
		return ClassBadCredentials
	case status == http.StatusForbidden:
		return ClassNoPermission
	case status == http.StatusNotFound && known:
		return ClassNotFound
	case status == http.StatusNotFound, status == http.StatusMethodNotAllowed, status == http.StatusGone:
		return ClassBadURL
	case status == http.StatusConflict:
		return ClassConflict
	case status == http.StatusRequestTimeout, status == http.StatusTooManyRequests,
		status == http.StatusBadGateway, status == http.StatusServiceUnavailable, status == http.StatusGatewayTimeout:
		return ClassBusy
	case status >= 500:
		return ClassServerError
	case status >= 400 && known:
		return ClassBadRequest
	default:
		return ClassBadReply
	}
}

// kindOf names the kind of a reply without repeating what the server wrote.
func kindOf(kind string) string {
	switch {
	case strings.Contains(kind, "html"):
		return "a web page"
	case strings.Contains(kind, "json"):
		return "broken JSON"
	default:
		return "something"
	}
}

// isClass says whether err is a failure of that class.
func isClass(err error, class string) bool {
	var f *failure.Error
	return errors.As(err, &f) && f.Class == class
}

// about says what was tried, and keeps the failure's kind, class and hint.
func about(what string, err error) error {
	if err == nil {
		return nil
	}
	f := *failure.As(err)
	f.Err = fmt.Errorf("%s: %w", what, f.Err)
	return &f
}
