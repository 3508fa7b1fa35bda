package afpacket

import (
	"context"
	"time"

	"golang.org/x/net/bpf"

	"capagent/capture"
	"capagent/capture/filter"
)

// OpenWith is Open with programs that the test makes.
func OpenWith(ctx context.Context, o capture.Options, program func(filter.Options) []bpf.RawInstruction) (capture.Source, error) {
	return open(ctx, o, func(_ context.Context, _ string, f filter.Options) ([]bpf.RawInstruction, error) {
		return program(f), nil
	})
}

// RestAfter has rings rest earlier. Nobody reads yet.
func RestAfter(s capture.Source, d time.Duration) { s.(*source).restAfter = d }

var (
	LinkTypeOf = linkTypeOf
	TagsAhead  = tagsAhead
)
