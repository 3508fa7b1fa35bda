package watch

// event is what the system says of a path. Events only make the agent faster:
// what they miss, the next scan finds.
type event struct {
	path string
	kind kind
}

type kind uint8

const (
	touched kind = iota // changed, or closed by a writer
	made                // new at this path: made or moved to here
	removed             // no more at this path
	moved               // no more at this path, and if it is a folder, alive elsewhere
	missed              // the system has lost events: nothing can be concluded
)
