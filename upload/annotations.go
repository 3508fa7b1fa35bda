package upload

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"capagent/internal/httpx"
)

// MaxAnnotation is the length of the longest annotation that is sent, in bytes: no
// document names a limit, and a long one is not read.
const MaxAnnotation = 500

// Annotation is a text on a packet of a session. A packet has one.
type Annotation struct {
	Frame int64 // within the session, counted from 1
	Text  string
}

// Annotations returns those of a session.
func (c *Client) Annotations(ctx context.Context, session string) ([]Annotation, error) {
	reply, err := c.get(ctx, "annotations/"+url.PathEscape(session), nil)
	if err != nil {
		return nil, about("annotations", session, err)
	}
	var items []struct {
		Line number `json:"line"`
		Text string `json:"text"`
	}
	if json.Unmarshal(reply.Body, &items) != nil {
		return nil, about("annotations", session, refusal(reply, c.http.Scrub, c.now()))
	}
	list := make([]Annotation, 0, len(items))
	for _, i := range items {
		if i.Line.known {
			list = append(list, Annotation{i.Line.n, i.Text})
		}
	}
	return list, nil
}

// Annotate puts a text on a packet of a session, in place of the one that is there
// (contracts/cloudshark.md 1.3). Doing it again changes nothing.
func (c *Client) Annotate(ctx context.Context, session string, a Annotation) error {
	form := url.Values{"frame": {strconv.FormatInt(a.Frame, 10)}, "text": {cut(line(a.Text), MaxAnnotation)}, "quiet": {"1"}}
	reply, err := c.postForm(ctx, "annotations/"+url.PathEscape(session), form)
	if err == nil {
		_, texts := exceptionsOf(reply)
		if reply.Status != http.StatusNoContent && reply.Status != http.StatusOK || reply.Err != nil || len(texts) > 0 {
			err = refusal(reply, c.http.Scrub, c.now())
		}
	}
	if err != nil {
		return about("annotate", fmt.Sprintf("frame %d of %s", a.Frame, session), err)
	}
	return nil
}

func (c *Client) postForm(ctx context.Context, method string, form url.Values) (*httpx.Reply, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+apiPath+method, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return c.http.Do(req)
}
