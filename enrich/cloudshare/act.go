package cloudshare

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// action is a path that changes something. These are all that exist here.
type action string

const (
	postponeInactivity action = "envs/actions/postponeinactivity"
	extendLease        action = "envs/actions/extend"
	suspendEnvironment action = "envs/actions/suspend"
	takeSnapshot       action = "snapshots/actions/takesnapshot"
)

// get reads like Client.get, with the calls that readers leave.
func (p *Preserver) get(ctx context.Context, what reading, query ...string) ([]byte, error) {
	return p.c.send(ctx, request{method: http.MethodGet, path: string(what), query: query, most: p.conf.DailyCalls})
}

// put changes an environment. It is sent once: what became of a request without an
// answer is looked for.
func (p *Preserver) put(ctx context.Context, what action, id string) error {
	_, err := p.c.send(ctx, request{method: http.MethodPut, path: string(what), query: []string{"envId", id}, most: p.conf.DailyCalls})
	return err
}

// environment reads one.
func (p *Preserver) environment(ctx context.Context, id string) (environment, error) {
	body, err := p.get(ctx, extended, "envId", id)
	if err != nil {
		return environment{}, err
	}
	e, ok := decodeEnvironment(body, false)
	if !ok || e.ID != id {
		return environment{}, fail(ClassBadReply, errors.New("CloudShare answers with something else than the environment"))
	}
	return e, nil
}

// snapshots reads those of an environment's blueprint.
func (p *Preserver) snapshots(ctx context.Context, id string) ([]snapshot, error) {
	body, err := p.get(ctx, snapshots, "envId", id)
	if err != nil {
		return nil, err
	}
	list, ok := decodeSnapshots(body)
	if !ok {
		return nil, fail(ClassBadReply, errors.New("CloudShare answers with something else than a list of snapshots"))
	}
	return list, nil
}

// mayEdit asks whether the user may. CloudShare answers 500 when not.
func (p *Preserver) mayEdit(ctx context.Context, id string) error {
	_, err := p.get(ctx, reading("envs/"+id), "permission", "edit")
	if statusOf(err) == http.StatusInternalServerError {
		return fail(ClassNoPermission, fmt.Errorf("the user of api_id may not edit it: %w", err))
	}
	return err
}

// take asks for a snapshot, which never becomes the default: that would be what new labs
// begin with. Its documentation says PUT, public clients use POST: PUT is for a server
// that has no POST (contracts/cloudshare-cloudtrax.md 1.3).
func (p *Preserver) take(ctx context.Context, id, name, description string) error {
	body, err := json.Marshal(struct {
		EnvID       string  `json:"envId"`
		Name        string  `json:"name"`
		Description string  `json:"description"`
		NewName     *string `json:"newBlueprintName"`
		Other       *string `json:"otherBlueprintId"`
		Default     bool    `json:"setAsDefault"`
	}{EnvID: id, Name: name, Description: description})
	if err != nil {
		return fail(ClassRefused, errors.New("the request can't be written"))
	}
	r := request{method: http.MethodPost, path: string(takeSnapshot), body: body, most: p.conf.DailyCalls}
	_, err = p.c.send(ctx, r)
	if status := statusOf(err); status == http.StatusNotFound || status == http.StatusMethodNotAllowed {
		r.method = http.MethodPut
		_, err = p.c.send(ctx, r)
	}
	return err
}
