package threatconnect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"capagent/internal/failure"
)

const (
	maxAccountOwners = 1000
	maxExclusions    = 100_000 // values of all lists together
	maxExclusion     = 1 << 10 // bytes of one
)

// Owner is an organization, community or source.
type Owner struct {
	ID   int64
	Name string
	Type string
}

// Owners lists the owners that the account may read.
func (c *Client) Owners(ctx context.Context) ([]Owner, error) {
	list := c.ownersV2
	if c.v3 {
		list = c.ownersV3
	}
	owners, err := list(ctx)
	if err != nil {
		return nil, about("list the owners", err)
	}
	return owners, nil
}

// Check asks ThreatConnect whether the configuration works: address, credentials,
// clock, and that each configured owner is there.
func (c *Client) Check(ctx context.Context) error {
	owners, err := c.Owners(ctx)
	if err != nil {
		return err
	}
	if len(owners) == maxAccountOwners {
		return nil // there are more than are listed
	}
	for _, name := range c.conf.Owners {
		if !slices.ContainsFunc(owners, func(o Owner) bool { return strings.EqualFold(o.Name, name) }) {
			return fail(ClassNoOwner, fmt.Errorf("the account sees no owner %q", name))
		}
	}
	return nil
}

// checkOwners makes sure once that the configured owners are there: API v3 would
// say of every indicator that a misspelt one does not know it.
func (c *Client) checkOwners(ctx context.Context) error {
	if len(c.conf.Owners) == 0 || c.checked.Load() {
		return nil
	}
	err := c.Check(ctx)
	if err == nil {
		c.checked.Store(true)
		return nil
	}
	switch failure.As(err).Class {
	case ClassNoPermission, ClassBadURL, ClassBadQuery: // not everybody may see the list
		c.log.Warn().Err(err).Msg("whether ThreatConnect has the configured owners can't be checked")
	default:
		return err
	}
	c.checked.Store(true)
	return nil
}

func ownersOf(raw json.RawMessage) ([]Owner, error) {
	var owners []Owner
	err := each(raw, maxAccountOwners, func(one json.RawMessage) error {
		var o struct {
			ID   id   `json:"id"`
			Name text `json:"name"`
			Type text `json:"type"`
		}
		if err := json.Unmarshal(one, &o); err != nil {
			return errList
		}
		if o.Name != "" && len(o.Name) <= maxName {
			owners = append(owners, Owner{int64(o.ID), string(o.Name), line(string(o.Type), maxName)})
		}
		return nil
	})
	if err != nil {
		return nil, fail(ClassBadReply, err)
	}
	return owners, nil
}

// Exclusions returns the values of ThreatConnect's own exclusion lists: what it
// would not take as an indicator. They may hold prefixes and asterisks. API v2 and
// servers older than 7.8 have none.
func (c *Client) Exclusions(ctx context.Context) ([]string, error) {
	if !c.v3 {
		return nil, nil
	}
	var all []string
	for start := 0; start < maxPages*pageSize; start += pageSize {
		reply, err := c.send(ctx, request{path: "/v3/security/exclusionLists", query: query(
			"fields", "values", "resultLimit", fmt.Sprint(pageSize), "resultStart", fmt.Sprint(start))})
		if err == nil && reply.Status == http.StatusNotFound {
			return nil, nil
		}
		var e envelope
		if err == nil {
			e, err = open(reply, c.mask, c.now())
		}
		if err != nil {
			return nil, about("list the exclusions", err)
		}
		if err := each(e.Data, pageSize, func(one json.RawMessage) error { return exclusion(one, &all) }); err != nil {
			return nil, about("list the exclusions", fail(ClassBadReply, err))
		}
		if e.Next == "" {
			break
		}
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

var errExclusions = errors.New("the exclusion lists are too long")

// exclusion adds the values of one list. They are strings, or objects that hold
// one, in lists or in one text with line ends or commas between them; the contract
// leaves open which.
func exclusion(raw json.RawMessage, to *[]string) error {
	var l struct {
		Inactive inactive        `json:"active"`
		Fixed    json.RawMessage `json:"fixedValues"`
		Variable json.RawMessage `json:"variableValues"`
		Values   json.RawMessage `json:"values"`
	}
	if err := json.Unmarshal(raw, &l); err != nil {
		return errList
	}
	if l.Inactive {
		return nil
	}
	for _, values := range []json.RawMessage{l.Fixed, l.Variable, l.Values} {
		if err := exclusionValues(values, to, 0); err != nil {
			return err
		}
	}
	return nil
}

func exclusionValues(raw json.RawMessage, to *[]string, depth int) error {
	if len(raw) == 0 || depth > 4 {
		return nil
	}
	switch raw[0] {
	case '[':
		return each(raw, maxExclusions, func(one json.RawMessage) error { return exclusionValues(one, to, depth+1) })
	case '{':
		var o struct {
			Value    json.RawMessage `json:"value"`
			Data     json.RawMessage `json:"data"`
			Fixed    json.RawMessage `json:"fixedValues"`
			Variable json.RawMessage `json:"variableValues"`
		}
		if json.Unmarshal(raw, &o) != nil {
			return errList
		}
		for _, inner := range []json.RawMessage{o.Value, o.Data, o.Fixed, o.Variable} {
			if err := exclusionValues(inner, to, depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	var s text
	if json.Unmarshal(raw, &s) != nil {
		return nil
	}
	for value := range strings.FieldsFuncSeq(string(s), func(r rune) bool { return r == '\n' || r == '\r' || r == ',' }) {
		if value = strings.TrimSpace(value); value == "" || len(value) > maxExclusion {
			continue
		}
		if len(*to) >= maxExclusions {
			return &failure.Error{Kind: failure.Permanent, Class: ClassBadReply, Err: errExclusions}
		}
		*to = append(*to, value)
	}
	return nil
}
