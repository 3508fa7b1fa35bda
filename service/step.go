package service

import (
	"context"

	"capagent/internal/ledger"
)

// Step is one unit of work on a capture: restartable, and at most once in
// effect. Its errors carry their kind (internal/failure). Everything that all
// steps need (claiming, retrying, recording, panics) is the Pipeline's.
type Step interface {
	Name() string
	Run(ctx context.Context, c ledger.Capture) (ledger.Result, error)
}

// Finder is what a step with an outside effect offers besides. Find asks the
// other side whether the effect already took place; the Pipeline calls it
// before it repeats a run whose end nobody saw. An error means that the other
// side could not be asked, and nothing is repeated.
type Finder interface {
	Find(ctx context.Context, c ledger.Capture) (ledger.Result, bool, error)
}
