package upload

import (
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"regexp"
	"slices"
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
	ClassBadToken     = "bad_token"
	ClassLoginNeeded  = "login_needed"
	ClassNoPermission = "no_permission"
	ClassTooLarge     = "too_large"
	ClassQuota        = "quota"
	ClassNotCapture   = "not_capture"
	ClassBusy         = "busy"
	ClassServerError  = "server_error"
	ClassBadReply     = "bad_reply"
	ClassChanged      = "changed"
	ClassUnreadable   = "unreadable"
	ClassBadURL       = httpx.ClassBadURL
)

type class struct {
	kind failure.Kind
	hint string
}

// classes says what each class means for the work, and what a user can do.
var classes = map[string]class{
	ClassBadToken:     {failure.Pause, "check [cloudshark] token: copy it again from your CloudShark account"},
	ClassLoginNeeded:  {failure.Pause, `the token wants a login besides; switch "must be logged in" off for it in CloudShark, or use another token`},
	ClassNoPermission: {failure.Pause, "give the token the missing permission in CloudShark (uploading needs \"Upload capture files\")"},
	ClassTooLarge:     {failure.Permanent, "set [cloudshark] max_size below the server's limit, so that larger captures are split, then: capagent retry"},
	ClassQuota:        {failure.Pause, "make room in CloudShark or ask its administrator for a larger quota; captures wait here meanwhile"},
	ClassNotCapture:   {failure.Permanent, "the server can't read this as a capture; compare with: capagent inspect FILE"},
	ClassBusy:         {failure.Retry, "the server is busy; the agent tries again"},
	ClassServerError:  {failure.Retry, "the server has a problem of its own; its log says more"},
	ClassBadReply:     {failure.Retry, "is [cloudshark] url really a CloudShark, with no portal or proxy in between?"},
	ClassChanged:      {failure.Permanent, "the file is no longer what was inspected; upload it again as it is now"},
	ClassUnreadable:   {failure.Permanent, "check that the file is there and that the agent may read it, then: capagent retry"},
	ClassBadURL:       {failure.Pause, "check [cloudshark] url: it must be the address at which CloudShark itself answers"},
}

// Hint says what a user can do about a failure of that class, "" when unknown.
func Hint(class string) string { return classes[class].hint }

func fail(class string, err error) *failure.Error {
	return &failure.Error{Kind: classes[class].kind, Class: class, Hint: classes[class].hint, Err: err}
}

// rule gives the class of an answer that is no success. The first that fits
// decides. Statuses for quota and size are not documented
// (contracts/cloudshark.md 1.2, 2), so the exceptions' text comes before them.
type rule struct {
	text       func() *regexp.Regexp // of any exception; nil: does not matter
	status     []int                 // nil: does not matter
	exceptions answer
	class      string
}

type answer uint8

const (
	either answer = iota
	with
	without
)

var rules = []rule{
	{status: []int{401}, class: ClassLoginNeeded},
	{text: words(`logged in|log ?in required|authentication required`), class: ClassLoginNeeded},
	{text: words(`token.*(missing|invalid|expired|revoked|unknown)|(missing|invalid|unknown).*token`), class: ClassBadToken},
	{text: words(`quota|storage limit|upload limit|upload count|out of (disk )?space|no space`), class: ClassQuota},
	{text: words(`too (large|big)|(file|capture|upload) size|max(imum)?( \w+)? size|size limit|larger than`), class: ClassTooLarge},
	{text: words(`rate limit|too many requests`), class: ClassBusy},
	{text: words(`limit (is |was |has been )?(reached|exceeded)|(reached|exceeded) .*limit`), class: ClassQuota},
	{text: words(`busy|try again later|temporarily`), class: ClassBusy},
	{text: words(`cannot execute|permission|not (allowed|authorized|permitted)|forbidden|access denied`), class: ClassNoPermission},
	{text: words(`not (a|an|any)( \w+){0,3} (capture|pcap|file)|not (recognized|recognised|understood|supported)|(unsupported|unknown|unrecogni[sz]ed|invalid|corrupt\w*|damaged)( \w+)? (capture|file|pcap|format)|could ?n.t (read|parse)`), status: []int{200, 400, 415, 422, 500}, class: ClassNotCapture},
	{status: []int{402, 507}, class: ClassQuota},
	{status: []int{413}, class: ClassTooLarge},
	{status: []int{403}, class: ClassNoPermission},
	{status: []int{404}, exceptions: with, class: ClassBadToken},
	{status: []int{404, 405, 410}, class: ClassBadURL},
	{status: []int{415, 422}, class: ClassNotCapture},
	{status: []int{400}, exceptions: with, class: ClassNotCapture},
	{status: []int{408, 425, 429, 502, 503, 504}, class: ClassBusy},
}

func words(re string) func() *regexp.Regexp { return lazy.Regexp(`(?i)` + re) }

func classify(status int, exceptions []string) string {
	has := without
	if len(exceptions) > 0 {
		has = with
	}
	for _, r := range rules {
		if r.status != nil && !slices.Contains(r.status, status) || r.exceptions != either && r.exceptions != has {
			continue
		}
		if r.text == nil || slices.ContainsFunc(exceptions, r.text().MatchString) {
			return r.class
		}
	}
	if status >= 500 {
		return ClassServerError
	}
	return ClassBadReply
}

// refusal is the failure that a reply stands for, when it is no success.
func refusal(reply *httpx.Reply, scrub func(string) string, now time.Time) *failure.Error {
	status, texts := exceptionsOf(reply)
	f := fail(classify(status, texts), nil)
	switch {
	case len(texts) > 0:
		f.Err = fmt.Errorf("CloudShark says %d: %s", status, said(texts, scrub))
	case reply.Err != nil && f.Class == ClassBadReply:
		f.Err = fmt.Errorf("answered %d, but %w", status, reply.Err)
	default:
		f.Err = fmt.Errorf("answered %d with %s instead of CloudShark's JSON", status, contentType(reply))
	}
	if f.Kind == failure.Retry {
		f.RetryAfter = httpx.RetryAfter(reply.Header, now)
	}
	return f
}

// exceptionsOf returns the texts of a failure's JSON, and its status. The JSON's
// own status counts only where HTTP says 200, which no failure should.
func exceptionsOf(reply *httpx.Reply) (int, []string) {
	var body struct {
		Status     number          `json:"status"`
		Exceptions json.RawMessage `json:"exceptions"`
	}
	if json.Unmarshal(reply.Body, &body) != nil {
		return reply.Status, nil
	}
	status := reply.Status
	if status == http.StatusOK && body.Status.known && body.Status.n >= 400 && body.Status.n < 600 {
		status = int(body.Status.n)
	}
	var many []any
	var one string
	if json.Unmarshal(body.Exceptions, &many) != nil && json.Unmarshal(body.Exceptions, &one) == nil && one != "" {
		many = []any{one}
	}
	var texts []string
	for _, v := range many {
		if text, ok := v.(string); ok && text != "" {
			texts = append(texts, text)
		}
	}
	return status, texts
}

// said makes a server's texts fit for people: masked, bounded, quoted.
func said(texts []string, scrub func(string) string) string {
	const most, each = 5, 300
	var out []string
	for i, text := range texts {
		if i == most {
			out = append(out, fmt.Sprintf("and %d more", len(texts)-most))
			break
		}
		text = scrub(text) // before it is cut: half a token is half a secret
		if len(text) > each {
			text = cut(text, each) + "..."
		}
		out = append(out, strconv.QuoteToGraphic(text))
	}
	return strings.Join(out, ", ")
}

// contentType names the kind of a reply without repeating what the server wrote.
func contentType(reply *httpx.Reply) string {
	kind, _, err := mime.ParseMediaType(reply.Header.Get("Content-Type"))
	switch {
	case json.Valid(reply.Body):
		return "other JSON"
	case err != nil:
		return "something"
	case strings.HasSuffix(kind, "html"):
		return "a web page"
	case strings.HasSuffix(kind, "json"), strings.HasSuffix(kind, "javascript"):
		return "broken JSON"
	default:
		return "something"
	}
}

var idPattern = lazy.Regexp(`^[0-9a-f]{12}$`)

var errNoID = errors.New("there is no valid session id in the reply")

// accepted returns the id and file name of a successful upload: HTTP 200 and
// JSON with a valid id, whatever the Content-Type (contracts/cloudshark.md 0, 1.2).
func accepted(reply *httpx.Reply, scrub func(string) string, now time.Time) (id, filename string, err error) {
	if reply.Err != nil {
		// The request's own body may be the reason.
		if f := failure.As(reply.Err); f.Kind == failure.Permanent {
			return "", "", reply.Err
		}
	}
	_, texts := exceptionsOf(reply)
	if reply.Status != http.StatusOK || reply.Err != nil || len(texts) > 0 {
		return "", "", refusal(reply, scrub, now)
	}
	var body struct {
		ID       string `json:"id"`
		Filename string `json:"filename"`
	}
	if json.Unmarshal(reply.Body, &body) != nil {
		var anyJSON any
		if json.Unmarshal(reply.Body, &anyJSON) != nil {
			return "", "", refusal(reply, scrub, now)
		}
		return "", "", fail(ClassBadReply, errNoID)
	}
	if !idPattern().MatchString(body.ID) {
		return "", "", fail(ClassBadReply, errNoID)
	}
	return body.ID, line(cut(scrub(body.Filename), 255)), nil
}

// number is a whole number that may come as a string (contracts/cloudshark.md 1.4).
type number struct {
	n     int64
	known bool
}

func (n *number) UnmarshalJSON(data []byte) error {
	v, err := strconv.ParseInt(strings.Trim(string(data), `" `), 10, 64)
	*n = number{v, err == nil}
	return nil
}
