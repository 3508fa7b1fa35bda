package live

import (
	"context"
	"errors"
	"slices"

	"capagent/capture"
	"capagent/capture/npcap"
)

// Open implements capture.Opener by Npcap.
func Open(ctx context.Context, o capture.Options) (capture.Source, error) { return npcap.Open(ctx, o) }

// Ready says what keeps every capture from running.
func Ready() error { return npcap.Ready() }

// examine says which interfaces Npcap knows, and adds those that only it knows.
func examine(all []Interface) ([]Interface, error) {
	devices, err := npcap.Devices()
	if err != nil {
		for i := range all {
			all[i].Problem = err
		}
		return all, nil
	}
	for i := range all {
		if !slices.ContainsFunc(devices, func(d npcap.Device) bool { return d.Name == all[i].Name }) {
			all[i].Problem = errUnknownToNpcap
		}
	}
	for _, d := range devices {
		if i := slices.IndexFunc(all, func(i Interface) bool { return i.Name == d.Name }); i >= 0 {
			all[i].Description = d.Description
			continue
		}
		all = append(all, Interface{Name: d.Name, Description: d.Description, MAC: d.MAC, Up: true, Running: true, LinkType: -1})
	}
	return all, nil
}

var errUnknownToNpcap = errors.New("not offered by Npcap")
