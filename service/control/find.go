package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"capagent/internal/ledger"
	"capagent/internal/quote"
	"capagent/service"
)

// maxWanted bounds what one call looks for.
const maxWanted = 16

// find answers GET /v1/sightings with a line for each hit and one for the result.
func find(b Backend) call {
	return func(r *http.Request, out *reply) error {
		search, err := readSearch(r.URL.Query())
		if err != nil {
			return err
		}
		if err := out.begin(); err != nil {
			return err
		}
		result, err := service.Find(r.Context(), b.Ledger(), search, func(v service.HitView) error { return out.line(v) })
		if err != nil {
			return err
		}
		return errors.Join(out.line(result), out.flush())
	}
}

// writeSearch is what readSearch reads: type, value and below as often as something
// is wanted.
func writeSearch(s ledger.Search) string {
	q := url.Values{}
	for _, w := range s.Wanted {
		q.Add("type", w.Type)
		q.Add("value", w.Value)
		q.Add("below", strconv.FormatBool(w.Below))
	}
	if !s.Since.IsZero() {
		q.Set("since", s.Since.UTC().Format(time.RFC3339Nano))
	}
	q.Set("limit", strconv.Itoa(s.Limit))
	return q.Encode()
}

func readSearch(q url.Values) (s ledger.Search, err error) {
	for key := range q {
		switch key {
		case "type", "value", "below", "since", "limit":
		default:
			return s, badRequest("%s: no such parameter", quote.Path(key))
		}
	}
	n := len(q["type"])
	if n == 0 || n > maxWanted || len(q["value"]) != n || len(q["below"]) != n {
		return s, badRequest("expected type, value and below, 1 to %d times each", maxWanted)
	}
	for i := range n {
		below, err := strconv.ParseBool(q["below"][i])
		if err != nil {
			return s, badRequest("below: not understood: %s", quote.Path(q["below"][i]))
		}
		s.Wanted = append(s.Wanted, ledger.Wanted{Type: q["type"][i], Value: q["value"][i], Below: below})
	}
	if text := q.Get("since"); text != "" {
		if s.Since, err = time.Parse(time.RFC3339Nano, text); err != nil {
			return s, badRequest("since: not understood: %s", quote.Path(text))
		}
	}
	if s.Limit, err = strconv.Atoi(q.Get("limit")); err != nil || s.Limit < 1 || s.Limit > ledger.MaxHits {
		return s, badRequest("limit: expected 1 to %d", ledger.MaxHits)
	}
	return s, nil
}

// Find has the agent look for indicators (service.Find).
func (c *Client) Find(ctx context.Context, s ledger.Search, each func(service.HitView) error) (service.FindResult, error) {
	var result service.FindResult
	ended := false
	for text, err := range c.lines(ctx, http.MethodGet, "/v1/sightings?"+writeSearch(s), nil) {
		var line struct {
			service.HitView
			Capture *int64 `json:"capture"`
			Total   *int64 `json:"total"`
		}
		if err == nil {
			err = json.Unmarshal(text, &line)
		}
		switch {
		case err != nil:
		case ended:
			err = errors.New("the agent's answer is not understood: it goes on behind its end")
		case line.Total != nil:
			ended = true
			err = json.Unmarshal(text, &result)
		case line.Capture == nil:
			err = toldAt(http.StatusInternalServerError, text)
		default:
			v := line.HitView
			v.Capture = *line.Capture
			for _, one := range []struct {
				exact string
				to    *string
			}{{v.PathBase64, v.Path}, {v.NameBase64, v.Name}} {
				if one.to != nil {
					err = errors.Join(err, decode(one.exact, one.to))
				}
			}
			if err == nil {
				err = each(v)
			}
		}
		if err != nil {
			return result, err
		}
	}
	if !ended {
		return result, fmt.Errorf("%w: the result is missing", ErrGone)
	}
	return result, nil
}
