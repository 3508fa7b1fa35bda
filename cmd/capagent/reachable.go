package main

import (
	"context"
	"strings"

	"capagent/service"
	"capagent/service/doctor"
)

// reachable asks each service that is configured something harmless, and says who
// answered. It ends with the first that does not.
func (a *app) reachable(ctx context.Context, cfg service.Config) (text string, err error) {
	var known []string
	for _, s := range doctor.Services(cfg, version, a.commandLogger(cfg)) {
		if err := s.Ask(ctx); err != nil {
			return "", err
		}
		known = append(known, s.Says)
	}
	return strings.Join(known, ", "), nil
}
