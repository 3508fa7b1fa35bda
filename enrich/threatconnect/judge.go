package threatconnect

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"capagent/internal/failure"
	"capagent/internal/httpx"
	"capagent/internal/lazy"
)

// Classes of failures. httpx adds "network", "tls", "redirect", "bad_url" and
// "canceled".
const (
	ClassBadCredentials = "bad_credentials"
	ClassClock          = "clock"
	ClassNoLicence      = "no_licence"
	ClassNoPermission   = "no_permission"
	ClassNoOwner        = "no_owner"
	ClassBusy           = "busy"
	ClassServerError    = "server_error"
	ClassBadReply       = "bad_reply"
	ClassBadQuery       = "bad_query"
	ClassBadURL         = httpx.ClassBadURL

	// classUnknown is no failure: the indicator is not known there.
	classUnknown = "unknown_indicator"
)

type class struct {
	kind failure.Kind
	hint string
}

// classes says what each class means for the work, and what a user can do.
var classes = map[string]class{
	ClassBadCredentials: {failure.Pause, "check [threatconnect] access_id and secret_key (or token): copy them again, quoted, as the API user's page shows them"},
	ClassClock:          {failure.Pause, "set this machine's clock right: ThreatConnect refuses requests that are more than 5 minutes off"},
	ClassNoLicence:      {failure.Pause, "ask who runs ThreatConnect: the API is not licensed or not switched on there"},
	ClassNoPermission:   {failure.Pause, "give the API user the missing role in ThreatConnect"},
	ClassNoOwner:        {failure.Pause, "check [threatconnect] owners: the API user must see each of them"},
	ClassBusy:           {failure.Retry, "the server is busy; the agent tries again"},
	ClassServerError:    {failure.Retry, "the server has a problem of its own; its log says more"},
	ClassBadReply:       {failure.Retry, "is [threatconnect] url really the API (it normally ends in /api), with no portal or proxy in between?"},
	ClassBadQuery:       {failure.Permanent, "the server takes this value for no indicator"},
	ClassBadURL:         {failure.Pause, "check [threatconnect] url and api_version: the API normally is at https://HOST/api"},
}

// Hint says what a user can do about a failure of that class, "" when unknown.
func Hint(class string) string { return classes[class].hint }

func fail(class string, err error) *failure.Error {
	return &failure.Error{Kind: classes[class].kind, Class: class, Hint: classes[class].hint, Err: err}
}

// rule gives the class of an answer that is no success. The first that fits
// decides (contracts/threatconnect.md 2.2, 3.1).
type rule struct {
	text   func() *regexp.Regexp // of the message; nil: does not matter
	status int                   // 0: does not matter
	class  string
}

var rules = []rule{
	{text: words(`timestamp out of|invalid timestamp`), class: ClassClock},
	{text: words(`not been licensed|not licensed`), class: ClassNoLicence},
	{text: words(`requested owner|owner .*not (found|exist)`), class: ClassNoOwner},
	{text: words(`signature data did not match|invalid token|token .*expired`), class: ClassBadCredentials},
	{text: words(`requested resource was not found`), status: http.StatusNotFound, class: classUnknown},
	{text: words(`could not find resource for relative`), class: ClassBadURL},
	{status: http.StatusUnauthorized, class: ClassBadCredentials},
	{status: http.StatusForbidden, class: ClassNoPermission},
	{text: words(`access denied`), class: ClassNoPermission},
	{status: http.StatusNotFound, class: ClassBadURL},
	{status: http.StatusMethodNotAllowed, class: ClassBadURL},
	{status: http.StatusGone, class: ClassBadURL},
	{status: http.StatusRequestTimeout, class: ClassBusy},
	{status: http.StatusTooManyRequests, class: ClassBusy},
	{status: http.StatusBadGateway, class: ClassBusy},
	{status: http.StatusServiceUnavailable, class: ClassBusy},
	{status: http.StatusGatewayTimeout, class: ClassBusy},
}

func words(re string) func() *regexp.Regexp { return lazy.Regexp(`(?i)` + re) }

func classify(status int, message string) string {
	for _, r := range rules {
		if (r.status == 0 || r.status == status) && (r.text == nil || r.text().MatchString(message)) {
			return r.class
		}
	}
	switch {
	case status >= 500:
		return ClassServerError
	case message != "" && status >= 400:
		return ClassBadQuery
	default:
		return ClassBadReply
	}
}

// maxMessage bounds what is looked at of a server's text.
const maxMessage = 2 << 10

// envelope is what all JSON replies have in common.
type envelope struct {
	Status  text            `json:"status"`
	Message text            `json:"message"`
	Code    text            `json:"errCode"`
	Next    text            `json:"next"`
	Data    json.RawMessage `json:"data"`
}

// open returns the envelope of a success, or the failure that a reply stands for.
func open(reply *httpx.Reply, scrub func(string) string, now time.Time) (envelope, error) {
	if isClass(reply.Err, httpx.ClassCanceled) {
		return envelope{}, reply.Err
	}
	var e envelope
	err := reply.Err // half a reply is no JSON
	if err == nil {
		err = json.Unmarshal(reply.Body, &e)
	}
	isJSON := err == nil
	success := strings.EqualFold(string(e.Status), "Success")
	if isJSON && success && reply.Status/100 == 2 {
		return e, nil
	}
	message := string(e.Message)
	if err != nil && strings.HasPrefix(reply.Header.Get("Content-Type"), "text/plain") {
		message = string(reply.Body[:min(len(reply.Body), maxMessage)])
	}
	message = scrub(message) // before it is cut: half a key is half a secret
	f := fail(classify(reply.Status, message[:min(len(message), maxMessage)]), nil)
	switch {
	case reply.Err != nil && reply.Status/100 == 2 && len(reply.Body) < maxReply:
		return envelope{}, reply.Err // the connection broke
	case reply.Err != nil && reply.Status/100 == 2:
		f = fail(ClassBadReply, fmt.Errorf("answered %d, but %w", reply.Status, reply.Err))
	case message != "":
		f.Err = fmt.Errorf("ThreatConnect says %d: %s", reply.Status, strconv.QuoteToGraphic(line(message, 300)))
	case isJSON && reply.Status/100 == 2:
		f = fail(ClassBadReply, fmt.Errorf("answered %d without saying that it succeeded", reply.Status))
	case isJSON:
		f.Err = fmt.Errorf("answered %d without a message", reply.Status)
	default:
		f.Err = fmt.Errorf("answered %d with %s instead of ThreatConnect's JSON", reply.Status, kindOf(reply))
	}
	if f.Kind == failure.Retry {
		f.RetryAfter = httpx.RetryAfter(reply.Header, now)
	}
	return envelope{}, f
}

// kindOf names the kind of a reply without repeating what the server wrote.
func kindOf(reply *httpx.Reply) string {
	kind := strings.ToLower(reply.Header.Get("Content-Type"))
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
	f := *failure.As(err)
	f.Err = fmt.Errorf("%s: %w", what, f.Err)
	return &f
}
