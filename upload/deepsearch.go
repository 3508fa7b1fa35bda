package upload

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"capagent/internal/failure"
	"capagent/internal/httpx"
	"capagent/internal/lazy"
)

// ErrNoDeepSearch means that this CloudShark, or the token, has no deep search: it is
// a part of CloudShark Enterprise, with a permission of its own.
var ErrNoDeepSearch = errors.New("there is no deep search here")

const (
	deepPath = "/api/v2/deep_search/"
	// MaxDeepSessions is how many sessions one search is given.
	MaxDeepSessions = 200
	deepPoll        = 300 * time.Millisecond // at first; a search reads whole captures
	deepPollMost    = 30 * time.Second
)

var deepID = lazy.Regexp(`^[A-Za-z0-9_-]{1,64}$`)

// DeepSearch returns which of the sessions, at most MaxDeepSessions, hold a packet
// that a display filter selects (contracts/cloudshark.md 1.3). It may take minutes.
func (c *Client) DeepSearch(ctx context.Context, filter string, sessions []string) ([]string, error) {
	found, err := c.deepSearch(ctx, filter, sessions)
	if err != nil {
		return nil, about("deep search", clip(filter), err)
	}
	return found, nil
}

func clip(s string) string { return cut(s, 100) }

func (c *Client) deepSearch(ctx context.Context, filter string, sessions []string) ([]string, error) {
	body, err := json.Marshal(map[string]any{"display_filter": filter, "capture_ids": sessions})
	if err != nil {
		return nil, err
	}
	var begun struct {
		ID deepName `json:"id"`
	}
	reply, err := c.v2(ctx, http.MethodPost, "", body)
	if err != nil {
		if f := failure.As(err); reply != nil && !wrongToken(f) && (f.Class == ClassNoPermission || slices.Contains([]int{404, 405, 501}, reply.Status)) {
			return nil, &failure.Error{Kind: failure.Permanent, Class: ClassNoPermission, Hint: `deep search needs CloudShark Enterprise, and a token with the permission "Deep Search"`, Err: fmt.Errorf("%w: %w", ErrNoDeepSearch, f.Err)}
		}
		return nil, err
	}
	if json.Unmarshal(reply.Body, &begun) != nil || !deepID().MatchString(string(begun.ID)) {
		return nil, fail(ClassBadReply, errors.New("the reply names no search"))
	}
	if err := c.deepEnd(ctx, string(begun.ID)); err != nil {
		return nil, err
	}
	reply, err = c.v2(ctx, http.MethodGet, string(begun.ID)+"/results", nil)
	if err != nil {
		return nil, err
	}
	ids, ok := deepResults(reply.Body)
	if !ok {
		return nil, fail(ClassBadReply, errors.New("the results are no list of captures"))
	}
	// Only what was asked for counts, whatever the server says.
	return slices.DeleteFunc(slices.Clone(sessions), func(id string) bool { return !slices.Contains(ids, id) }), nil
}

// wrongToken tells a 404 that is about the token from one about the path.
func wrongToken(f *failure.Error) bool {
	return f.Class == ClassBadToken && strings.Contains(strings.ToLower(f.Error()), "token")
}

// deepEnd waits for the end of a search.
func (c *Client) deepEnd(ctx context.Context, id string) error {
	for pause := c.poll(); ; pause = min(2*pause, deepPollMost) {
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
		reply, err := c.v2(ctx, http.MethodGet, id, nil)
		if err != nil {
			return err
		}
		var state struct {
			Finished bool `json:"finished?"`
		}
		if json.Unmarshal(reply.Body, &state) != nil {
			return fail(ClassBadReply, errors.New("the reply does not describe the search"))
		}
		if state.Finished {
			return nil
		}
	}
}

func (c *Client) poll() time.Duration {
	if c.deepPoll > 0 {
		return c.deepPoll
	}
	return deepPoll
}

// v2 speaks API v2, which has its token in a header.
func (c *Client) v2(ctx context.Context, method, path string, body []byte) (*httpx.Reply, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+deepPath+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", httpx.Placeholder)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	} else {
		req.Body, req.ContentLength = nil, 0
	}
	reply, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	_, texts := exceptionsOf(reply)
	if reply.Status != http.StatusOK && reply.Status != http.StatusCreated || reply.Err != nil || len(texts) > 0 {
		return reply, refusal(reply, c.http.Scrub, c.now())
	}
	return reply, nil
}

// deepName is an id, which may be a number.
type deepName string

func (n *deepName) UnmarshalJSON(data []byte) error {
	*n = deepName(strings.Trim(string(data), `"`))
	return nil
}

// deepResults reads a list of captures, whose form is not documented in detail: ids,
// or objects with one, bare or within an object.
func deepResults(data []byte) (ids []string, ok bool) {
	var list []json.RawMessage
	if json.Unmarshal(data, &list) != nil {
		var in struct{ Results, Captures, CaptureIDs []json.RawMessage }
		var named struct {
			IDs []json.RawMessage `json:"capture_ids"`
		}
		if json.Unmarshal(data, &in) != nil || json.Unmarshal(data, &named) != nil {
			return nil, false
		}
		if list = slices.Concat(in.Results, in.Captures, named.IDs); list == nil {
			return nil, false
		}
	}
	for _, raw := range list {
		var id string
		if json.Unmarshal(raw, &id) != nil {
			var one struct {
				ID, Capture string
				CaptureID   string `json:"capture_id"`
			}
			if json.Unmarshal(raw, &one) != nil {
				return nil, false
			}
			for _, id = range []string{one.ID, one.CaptureID, one.Capture} {
				if id != "" {
					break
				}
			}
		}
		ids = append(ids, id)
	}
	return ids, true
}
