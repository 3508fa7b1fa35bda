package threatconnect

import (
	"context"
	"time"

	"capagent/enrich/choose"
	"capagent/enrich/verdict"
)

// What ThreatConnect itself excludes it has no indicator of: asking for it is in
// vain. Its lists cost a request, which pays where there is much to ask.
const (
	worthExclusions = 300
	exclusionsFor   = 24 * time.Hour
	exclusionsAgain = 10 * time.Minute // after they could not be had
)

// exclusions are ThreatConnect's own, and until when they count.
type exclusions struct {
	list  *choose.Exclusions
	until time.Time
}

// leaveOut returns the queries that are worth asking, and those that are not.
func (c *Client) leaveOut(ctx context.Context, queries []verdict.Query) (ask, out []verdict.Query) {
	list := c.excluded(ctx, len(queries))
	if list == nil {
		return queries, nil
	}
	for _, q := range queries {
		if list.Has(q) {
			out = append(out, q)
		} else {
			ask = append(ask, q)
		}
	}
	return ask, out
}

// excluded returns the exclusions, nil when there are none, and fetches them where
// they are old and so many queries are worth it.
func (c *Client) excluded(ctx context.Context, queries int) *choose.Exclusions {
	if !c.v3 {
		return nil
	}
	select {
	case c.excluding <- struct{}{}:
		defer func() { <-c.excluding }()
	case <-ctx.Done():
		return nil
	}
	if queries < worthExclusions || c.now().Before(c.exclude.until) {
		return c.exclude.list
	}
	values, err := c.Exclusions(ctx)
	if err != nil {
		c.log.Debug().Err(err).Msg("the exclusion lists of ThreatConnect are not known")
		c.exclude.until = c.now().Add(exclusionsAgain)
		return c.exclude.list
	}
	list, bad := choose.NewExclusions(values)
	c.log.Debug().Int("values", len(values)).Int("unread", bad).Msg("the exclusion lists of ThreatConnect are known")
	c.exclude = exclusions{list, c.now().Add(exclusionsFor)}
	return list
}
