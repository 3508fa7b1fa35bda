package upload

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"capagent/internal/failure"
)

// maxCandidates bounds how many sessions of one search are looked at closely.
const maxCandidates = 20

// The two ways in which Find can't tell. The capture may be on the server.
var (
	ErrNoSearch     = errors.New("the token may not search")
	ErrOtherContent = errors.New("a session of that name exists, but its content can't be shown to be the same")
)

// Info is what the agent reads of a session (contracts/cloudshark.md 1.4).
type Info struct {
	ID       string `json:"id"`
	Filename string `json:"filename"`
	Size     number `json:"size"`
	Packets  number `json:"num_packets"`
	SHA1     string `json:"sha1_hash"` // "" from older servers
}

// Info returns what the server knows of a session, and false when it has none of
// that id.
func (c *Client) Info(ctx context.Context, id string) (Info, bool, error) {
	if !idPattern().MatchString(id) {
		return Info{}, false, fmt.Errorf("info %q: not a session id", id)
	}
	reply, err := c.get(ctx, "info/"+id, nil)
	if err != nil {
		if reply != nil && reply.Status == http.StatusNotFound && missingCapture(err) {
			return Info{}, false, nil
		}
		return Info{}, false, about("info", id, err)
	}
	var info Info
	if json.Unmarshal(reply.Body, &info) != nil || info.ID != id {
		return Info{}, false, about("info", id, fail(ClassBadReply, errors.New("the reply does not describe the session")))
	}
	return info, true, nil
}

// missingCapture tells a 404 that is about the capture from one about the token:
// only the second speaks of a token.
func missingCapture(err error) bool {
	return failure.As(err).Class == ClassBadToken && !strings.Contains(strings.ToLower(err.Error()), "token")
}

// Find looks for the session of a file: of exactly that name, and the same size
// and SHA-1, or the same size and number of packets where the server tells no
// SHA-1. An error that wraps ErrNoSearch or ErrOtherContent means that it may be
// there; with any other error nothing is known.
func (c *Client) Find(ctx context.Context, name string, size int64, sha1 string, packets int64) (Session, bool, error) {
	ids, err := c.search(ctx, name)
	if err != nil {
		return Session{}, false, about("find", name, noSearch(err))
	}
	other := len(ids) > maxCandidates
	for _, id := range ids[:min(len(ids), maxCandidates)] {
		info, ok, err := c.Info(ctx, id)
		if err != nil {
			return Session{}, false, about("find", name, noSearch(err))
		}
		if !ok || info.Filename != name {
			continue
		}
		if info.is(size, sha1, packets) {
			return Session{ID: id, URL: c.Link(id), Filename: name}, true, nil
		}
		other = true
	}
	if other {
		return Session{}, false, about("find", name, ErrOtherContent)
	}
	return Session{}, false, nil
}

func (i Info) is(size int64, sha1 string, packets int64) bool {
	if !i.Size.known || i.Size.n != size {
		return false
	}
	if i.SHA1 != "" {
		return strings.EqualFold(i.SHA1, sha1)
	}
	return i.Packets.known && i.Packets.n == packets
}

// search returns the ids of sessions that may have that name. Whether the server
// compares names in whole or in part is not documented.
func (c *Client) search(ctx context.Context, name string) ([]string, error) {
	reply, err := c.get(ctx, "search", url.Values{"search[filename]": {name}})
	if err != nil {
		return nil, err
	}
	var found struct {
		Captures []struct {
			ID       string  `json:"id"`
			Filename *string `json:"filename"`
		} `json:"captures"`
	}
	if json.Unmarshal(reply.Body, &found) != nil || found.Captures == nil {
		return nil, fail(ClassBadReply, errors.New("the reply is no list of captures"))
	}
	var ids []string
	for _, one := range found.Captures {
		if idPattern().MatchString(one.ID) && (one.Filename == nil || *one.Filename == name) {
			ids = append(ids, one.ID)
		}
	}
	return ids, nil
}

func noSearch(err error) error {
	f := failure.As(err)
	if f.Class != ClassNoPermission && !missingCapture(err) {
		return err
	}
	return &failure.Error{Kind: f.Kind, Class: ClassNoPermission, Hint: f.Hint, Err: fmt.Errorf("%w: %w", ErrNoSearch, f.Err)}
}

// Ping checks address and token without uploading anything
// (contracts/cloudshark.md 1.1). search tells whether the token may also search,
// which it need not.
func (c *Client) Ping(ctx context.Context) (search bool, err error) {
	_, err = c.search(ctx, "capagent asks whether the token is valid")
	if err != nil && failure.As(err).Class != ClassNoPermission {
		return false, about("check", c.base, err)
	}
	return err == nil, nil
}
