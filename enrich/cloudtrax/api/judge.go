package api

import (
	"bytes"
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

// Classes of failures. httpx adds "network", "tls", "redirect", "bad_url" and
// "canceled".
const (
	ClassBadCredentials = "bad_credentials"
	ClassClock          = "clock"
	ClassNonce          = "nonce"
	ClassNoPermission   = "no_permission"
	ClassNotFound       = "not_found"
	ClassBadRequest     = "bad_request"
	ClassBusy           = "busy"
	ClassServerError    = "server_error"
	ClassBadReply       = "bad_reply"
)

type class struct {
	kind failure.Kind
	hint string
}

// classes says what each class means for the work, and what a user can do.
var classes = map[string]class{
	ClassBadCredentials: {failure.Pause, "check [cloudtrax] key and secret: copy both again, or have a new key made; then reload"},
	ClassClock:          {failure.Pause, "set this machine's clock right: CloudTrax refuses requests that are more than 15 minutes off"},
	ClassNonce:          {failure.Retry, "another agent may use the same key; give each a key of its own"},
	ClassNoPermission:   {failure.Pause, "the key may not do this: it may be read-only, or for another network"},
	ClassNotFound:       {failure.Permanent, "check [cloudtrax] networks and url"},
	ClassBadRequest:     {failure.Permanent, "this is a mistake of the agent: please report it"},
	ClassBusy:           {failure.Retry, "the server is busy; the agent tries again"},
	ClassServerError:    {failure.Retry, "the server has a problem of its own; the agent tries again"},
	ClassBadReply:       {failure.Retry, "is [cloudtrax] url really the API, with no portal or proxy in between?"},
}

// Fail returns a failure of a class.
func Fail(class string, err error) error { return fail(class, err) }

func fail(class string, err error) *failure.Error {
	return &failure.Error{Kind: classes[class].kind, Class: class, Hint: classes[class].hint, Err: err}
}

// IsClass says whether err is a failure of that class.
func IsClass(err error, class string) bool {
	var f *failure.Error
	return errors.As(err, &f) && f.Class == class
}

// byCode are the codes of failures that contract 2.2 tells apart.
var byCode = map[int]string{
	13000: ClassBadCredentials, 13005: ClassBadCredentials, 13007: ClassBadCredentials,
	13011: ClassBadCredentials, 13016: ClassBadCredentials,
	13002: ClassClock, 13003: ClassNonce,
	13001: ClassBadRequest, 13004: ClassBadRequest, 13012: ClassBadRequest, 13015: ClassBadRequest,
	1005: ClassBadRequest, 1006: ClassBadRequest,
	11000: ClassBadRequest, 11001: ClassBadRequest, 11002: ClassBadRequest,
	13006: ClassNoPermission, 13008: ClassNoPermission, 13009: ClassNoPermission, 13010: ClassNoPermission,
	1001: ClassNoPermission, 1018: ClassNoPermission, 30001: ClassNoPermission, 30002: ClassNoPermission,
	1002: ClassNotFound, 1003: ClassNotFound, 1004: ClassNotFound, 12000: ClassNotFound,
	1007: ClassNotFound, 1008: ClassNotFound, 1017: ClassNotFound,
	1000: ClassServerError, 1016: ClassServerError, 1019: ClassServerError,
}

// Codes of success without data.
const (
	codeSuccess = 1009
	codeDeleted = 14001
)

// flaw is one error of a reply. What is of another type than it should be is zero.
type flaw struct {
	code    int
	message string
}

func (f *flaw) UnmarshalJSON(data []byte) error {
	var raw struct{ Code, Message json.RawMessage }
	if json.Unmarshal(data, &raw) != nil {
		return nil
	}
	f.code, _ = strconv.Atoi(strings.Trim(string(raw.Code), `"`))
	if json.Unmarshal(raw.Message, &f.message) != nil {
		f.message = ""
	}
	return nil
}

// flaws returns what a reply complains of, and whether it is JSON at all. The status
// is not looked at: errors come with any.
func flaws(body []byte) (list []flaw, isJSON bool) {
	body = bytes.TrimLeft(body, " \t\r\n")
	if len(body) == 0 {
		return nil, true // success without data
	}
	if body[0] != '{' {
		return nil, body[0] == '[' && json.Valid(body)
	}
	var head struct{ Errors, Code json.RawMessage }
	if json.Unmarshal(body, &head) != nil {
		return nil, false
	}
	dec := json.NewDecoder(bytes.NewReader(head.Errors))
	if first, err := dec.Token(); err == nil && first == json.Delim('[') {
		for len(list) < maxFlaws && dec.More() {
			var one flaw
			if dec.Decode(&one) != nil {
				break
			}
			list = append(list, one)
		}
	} else if first == json.Delim('{') {
		list = append(list, parseFlaw(head.Errors))
	}
	if len(list) == 0 && len(head.Code) > 0 && len(body) <= maxBare {
		if one := parseFlaw(body); one.code != 0 && one.code != codeSuccess && one.code != codeDeleted {
			list = append(list, one)
		}
	}
	return list, true
}

func parseFlaw(data []byte) (f flaw) {
	_ = f.UnmarshalJSON(data) // never fails
	return f
}

// Bounds of what is looked at for failures.
const (
	maxFlaws   = 20
	maxBare    = 4 << 10 // of a reply with nothing but a code
	maxMessage = 64 << 10
)

// judge returns the body of a success, or the failure that a reply stands for.
func (c *Client) judge(reply *httpx.Reply) ([]byte, error) {
	switch {
	case reply.Err == nil:
	case int64(len(reply.Body)) >= MaxReply: // more than is read
		return nil, fail(ClassBadReply, fmt.Errorf("answered %d, but %w", reply.Status, reply.Err))
	default:
		return nil, reply.Err // the connection broke
	}
	list, isJSON := flaws(reply.Body)
	if isJSON && len(list) == 0 && reply.Status/100 == 2 {
		return reply.Body, nil
	}
	f := fail(classify(reply.Status, list), nil)
	switch {
	case len(list) > 0:
		f.Err = fmt.Errorf("CloudTrax says %d: %s", list[0].code, c.line(list[0].message))
	case isJSON:
		f.Err = fmt.Errorf("answered %d without saying why", reply.Status)
	default:
		f.Err = fmt.Errorf("answered %d with %s instead of CloudTrax's JSON", reply.Status, kindOf(reply))
	}
	if f.Kind == failure.Retry {
		f.RetryAfter = httpx.RetryAfter(reply.Header, time.Now())
	}
	return nil, f
}

// classify decides by the first code that says something, then by the status.
func classify(status int, list []flaw) string {
	for _, f := range list {
		if known := byCode[f.code]; known != "" && known != ClassServerError {
			return known
		}
	}
	switch {
	case status == http.StatusTooManyRequests, status == http.StatusBadGateway, status == http.StatusServiceUnavailable, status == http.StatusGatewayTimeout:
		return ClassBusy
	case status >= 500, len(list) > 0:
		return ClassServerError
	}
	return ClassBadReply
}

// line makes a server's text fit for an error.
func (c *Client) line(s string) string {
	const most = 300
	if len(s) > maxMessage {
		s = "(a long text)"
	}
	s = c.mask(s) // before it is cut: half a key is half a secret
	if len(s) > most {
		s = s[:most] + "..."
	}
	return strconv.QuoteToGraphic(strings.ToValidUTF8(s, ""))
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
