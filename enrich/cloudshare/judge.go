package cloudshare

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"capagent/enrich/device"
	"capagent/internal/failure"
	"capagent/internal/httpx"
	"capagent/internal/lazy"
)

// Classes of failures. httpx adds "network", "tls", "redirect", "bad_url" and
// "canceled".
const (
	ClassBadCredentials = "bad_credentials"
	ClassNoPermission   = "no_permission"
	ClassNotFound       = "not_found"
	ClassBusy           = "busy"
	ClassServerError    = "server_error"
	ClassRefused        = "refused"
	ClassBadReply       = "bad_reply"
	ClassBadURL         = httpx.ClassBadURL
	ClassNoAnswer       = "no_answer"
	ClassBudget         = "daily_calls"

	// Of Preserver.
	ClassNotAllowed  = "not_allowed"
	ClassCooldown    = "cooldown"
	ClassWouldEvict  = "would_evict"
	ClassNotReady    = "not_ready"
	ClassNoChange    = "no_change"
	ClassUnconfirmed = "unconfirmed"
	ClassState       = "state"
)

type class struct {
	kind failure.Kind
	hint string
}

// classes says what each class means for the work, and what a user can do. Only what
// the contract (1.2) lets be asked again is.
var classes = map[string]class{
	ClassBadCredentials: {failure.Pause, "check [cloudshare] api_id and api_key, and this machine's clock"},
	ClassNoPermission:   {failure.Permanent, "give the CloudShare user of api_id the right to it"},
	ClassNotFound:       {failure.Permanent, "check the environment's id: the CloudShare user of api_id must see it"},
	ClassBusy:           {failure.Retry, "CloudShare is busy; the agent asks again later"},
	ClassServerError:    {failure.Permanent, "CloudShare has a problem of its own, or the user of api_id lacks a right"},
	ClassRefused:        {failure.Permanent, ""},
	ClassBadReply:       {failure.Retry, "is [cloudshare] url really the API, with no portal or proxy in between?"},
	ClassBadURL:         {failure.Pause, "check [cloudshare] url: the API normally is at " + DefaultURL},
	ClassNoAnswer:       {failure.Retry, "CloudShare or the network is slow; the agent asks again later"},
	ClassBudget:         {failure.Retry, "raise [cloudshare] daily_calls if the account allows more"},
	ClassNotAllowed:     {failure.Permanent, "set [cloudshare] preserve = true, and name the environment's id in preserve_allow"},
	ClassCooldown:       {failure.Permanent, "[cloudshare] preserve_cooldown says how often an environment is preserved"},
	ClassWouldEvict:     {failure.Permanent, "remove a snapshot that nobody needs in CloudShare's console"},
	ClassNotReady:       {failure.Permanent, "only a running environment is preserved: see it in CloudShare's console"},
	ClassNoChange:       {failure.Permanent, "the environment's policy does not let it live longer: ask who owns the project"},
	ClassUnconfirmed:    {failure.Retry, "see the environment's snapshots in CloudShare's console; asked again, the agent looks for this one first"},
	ClassState:          {failure.Permanent, "without this file the agent would not know what it did: see that it can be read and written, or move it away"},
}

// Hint says what a user can do about a failure of that class, "" when unknown.
func Hint(class string) string { return classes[class].hint }

func fail(class string, err error) *failure.Error {
	return &failure.Error{Kind: classes[class].kind, Class: class, Hint: classes[class].hint, Err: err}
}

func classify(status int) string {
	switch status {
	case http.StatusUnauthorized:
		return ClassBadCredentials
	case http.StatusForbidden:
		return ClassNoPermission
	case http.StatusNotFound:
		return ClassNotFound
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return ClassBusy
	}
	if status >= 500 {
		return ClassServerError
	}
	return ClassRefused
}

// answered is a failure that CloudShare answered with.
type answered struct {
	status int
	text   string
}

func (a *answered) Error() string { return a.text }

// statusOf is the status that CloudShare answered with, 0 when it did not.
func statusOf(err error) int {
	var a *answered
	if errors.As(err, &a) {
		return a.status
	}
	return 0
}

const (
	maxMessage = 2 << 10 // bytes that are looked at of a server's text
	shownText  = 200     // bytes of it in an error
)

// problem is the body of a failure (contracts/cloudshare-cloudtrax.md 1.2). The code
// is text: its first three digits are the status, in decimal.
type problem struct {
	Message text `json:"message"`
	Code    text `json:"code"`
}

var (
	wholeCode = lazy.Regexp(`^0x[0-9a-fA-F]{1,16}$`)
	codeOfMap = lazy.Regexp(`^0x([45][0-9]{2})`)
)

// open returns the body of a success, which may be empty, or the failure that a reply
// stands for. The text of a success is in no error: it may hold passwords.
func open(reply *httpx.Reply, mask func(string) string, now time.Time) ([]byte, error) {
	if isClass(reply.Err, httpx.ClassCanceled) {
		return nil, reply.Err
	}
	if reply.Status/100 == 2 {
		return success(reply)
	}
	var p problem
	isJSON := reply.Err == nil && json.Unmarshal(reply.Body, &p) == nil
	kind := strings.ToLower(reply.Header.Get("Content-Type"))
	status := reply.Status
	if m := codeOfMap().FindStringSubmatch(string(p.Code)); m != nil {
		status, _ = strconv.Atoi(m[1]) // a proxy may have changed the other one
	}
	f := fail(classify(status), nil)
	message := string(p.Message)
	if !isJSON && strings.HasPrefix(kind, "text/plain") {
		message = string(reply.Body[:min(len(reply.Body), maxMessage)])
	}
	message = mask(message) // before it is cut: half a key is half a secret
	code := ""
	if wholeCode().MatchString(string(p.Code)) {
		code = " (" + string(p.Code) + ")"
	}
	switch {
	case message != "":
		f.Err = said(reply.Status, "CloudShare says %d%s: %s", reply.Status, code, strconv.QuoteToGraphic(line(message, shownText)))
	case isJSON, len(reply.Body) == 0:
		f.Err = said(reply.Status, "CloudShare says %d%s without a message", reply.Status, code)
	default:
		if f.Class == ClassNotFound || f.Class == ClassRefused {
			f = fail(ClassBadURL, nil)
		}
		f.Err = said(reply.Status, "answered %d with %s instead of CloudShare's JSON", reply.Status, kindOf(kind))
	}
	if f.Kind == failure.Retry {
		f.RetryAfter = httpx.RetryAfter(reply.Header, now)
	}
	return nil, f
}

func said(status int, format string, args ...any) error {
	return &answered{status, fmt.Sprintf(format, args...)}
}

func success(reply *httpx.Reply) ([]byte, error) {
	kind := strings.ToLower(reply.Header.Get("Content-Type"))
	switch {
	case reply.Err != nil && len(reply.Body) >= maxReply:
		return nil, fail(ClassBadReply, fmt.Errorf("answered %d, but %w", reply.Status, reply.Err))
	case reply.Err != nil:
		return nil, reply.Err // the connection broke
	case len(bytes.TrimSpace(reply.Body)) == 0:
		return nil, nil
	case strings.Contains(kind, "html"), !json.Valid(reply.Body):
		return nil, fail(ClassBadReply, fmt.Errorf("answered %d with %s instead of CloudShare's JSON", reply.Status, kindOf(kind)))
	}
	return reply.Body, nil
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

// line is at most n bytes of a text, on one line.
func line(s string, n int) string {
	return strings.Join(strings.Fields(strings.ToValidUTF8(s[:min(len(s), n)], "")), " ")
}

// named is an environment in an error or a step.
func named(name, id string) string {
	if name = device.Clean(name); name == "" || name == id {
		return "environment " + id
	}
	return "environment " + strconv.QuoteToGraphic(name) + " (" + id + ")"
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
