package service

import (
	"context"

	"github.com/rs/zerolog"

	"capagent/enrich/indicator"
	"capagent/internal/ledger"
)

// Sightings are the indicators of a capture as the ledger keeps them: all of them,
// since `capagent find` may ask for a private address, too; nil where nobody looked.
func (l *Looked) Sightings() []ledger.Sighting {
	if l.Frames == 0 {
		return nil
	}
	list := make([]ledger.Sighting, 0, len(l.Indicators))
	for _, i := range l.Indicators {
		list = append(list, sighting(i))
	}
	return list
}

func sighting(i indicator.Indicator) ledger.Sighting {
	return ledger.Sighting{
		Type: i.Type.String(), Value: i.Value, Role: uint64(i.Role),
		FirstFrame: i.First.Frame, Count: i.Count, First: i.FirstTime(), Last: i.LastTime(),
	}
}

// Sight records what a capture held. That it can't is no reason to stop anything:
// it is logged, and inspecting the file tells it again.
func Sight(ctx context.Context, l *ledger.Ledger, log zerolog.Logger, capture int64, list []ledger.Sighting) {
	if list == nil {
		return
	}
	if err := l.Sight(ctx, capture, list); err != nil && ctx.Err() == nil {
		log.Warn().Err(err).Str("class", "sightings").Int64("capture", capture).Msg("what a capture holds is not recorded; `capagent find` will miss it")
	}
}
