package live

import (
	"context"

	"capagent/capture"
	"capagent/capture/afpacket"
)

// Open implements capture.Opener by rings of packet sockets.
func Open(ctx context.Context, o capture.Options) (capture.Source, error) {
	return afpacket.Open(ctx, o)
}

func examine(all []Interface) ([]Interface, error) {
	problem := afpacket.Permitted()
	for i := range all {
		all[i].Problem = problem
		if n, err := afpacket.LinkType(all[i].Name); err == nil {
			all[i].LinkType = n
		}
	}
	return append(all, Interface{
		Name: Any, Description: "all interfaces", Up: true, Running: true, LinkType: cooked, Problem: problem,
	}), nil
}

const cooked = 276 // LINKTYPE_LINUX_SLL2
