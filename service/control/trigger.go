package control

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"capagent/internal/config"
	"capagent/internal/ledger"
	"capagent/service"
)

// TriggerRequest asks for a window of what is held: from Before now until After.
type TriggerRequest struct {
	Before  *config.Duration `json:"before,omitempty"` // "5m"; null: that of [policy]
	After   *config.Duration `json:"after,omitempty"`  // likewise
	Reason  string           `json:"reason,omitempty"`
	Capture string           `json:"capture,omitempty"` // the name of a live one; "": all that is held
	By      string           `json:"by,omitempty"`      // who asks, for people
}

// Trigger is one that was asked for.
type Trigger struct {
	ID       int64      `json:"id"`
	Asked    time.Time  `json:"asked"`
	From     time.Time  `json:"from"`
	To       time.Time  `json:"to"`
	By       string     `json:"by"`
	Reason   string     `json:"reason"`
	Capture  string     `json:"capture"`  // "": all that was held
	Ended    *time.Time `json:"ended"`    // null: still to be carried out
	Captures []int64    `json:"captures"` // that were made or released
	Segments []int64    `json:"segments"` // that those were made of
	Note     *string    `json:"note"`     // what is to be known of them
	Error    *string    `json:"error"`    // why there is none
}

// NewTrigger shows a trigger of the ledger.
func NewTrigger(t ledger.Trigger) Trigger {
	v := Trigger{
		ID: t.ID, Asked: t.Asked, From: t.From, To: t.To, By: t.By, Reason: t.Reason, Capture: strings.TrimPrefix(t.Source, service.CapturePrefix),
		Ended: known(t.Ended), Captures: t.Captures, Segments: t.Segments,
	}
	fill(&v.Captures)
	fill(&v.Segments)
	if t.Note != "" {
		v.Note = &t.Note
	}
	if t.Error != "" {
		v.Error = &t.Error
	}
	return v
}

func trigger(b Backend) call {
	return func(r *http.Request, out *reply) error {
		var ask TriggerRequest
		if err := body(r, out, &ask); err != nil {
			return err
		}
		if len(ask.By) > 200 {
			return badRequest("by: longer than 200 bytes")
		}
		t, err := b.Trigger(r.Context(), ask)
		if err != nil {
			return err
		}
		return out.object(http.StatusOK, t)
	}
}

func triggered(b Backend) call {
	return func(r *http.Request, out *reply) error {
		id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
		if err != nil {
			return badRequest("expected the number of a trigger")
		}
		t, err := b.Ledger().Trigger(r.Context(), id)
		if err != nil {
			return err
		}
		return out.object(http.StatusOK, NewTrigger(t))
	}
}

// Trigger asks for the release of a window, and returns before that is carried
// out (Backend.Trigger).
func (c *Client) Trigger(ctx context.Context, ask TriggerRequest) (Trigger, error) {
	var v Trigger
	err := c.object(ctx, http.MethodPost, "/v1/trigger", ask, &v)
	return v, err
}

// Triggered asks what became of a trigger.
func (c *Client) Triggered(ctx context.Context, id int64) (Trigger, error) {
	var v Trigger
	err := c.object(ctx, http.MethodGet, fmt.Sprintf("/v1/triggers/%d", id), nil, &v)
	return v, err
}
