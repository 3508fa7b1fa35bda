//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package live

import (
	"context"

	"capagent/capture"
	"capagent/capture/bsd"
)

// Open implements capture.Opener by the packet filter device.
func Open(ctx context.Context, o capture.Options) (capture.Source, error) { return bsd.Open(ctx, o) }

func examine(all []Interface) ([]Interface, error) {
	problem := bsd.Permitted()
	for i := range all {
		all[i].Problem = problem
		all[i].LinkType = bsd.LinkType(all[i].Loopback || len(all[i].MAC) == 0)
	}
	return all, nil
}
