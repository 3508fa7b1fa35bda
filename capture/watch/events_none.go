//go:build !linux && !windows

package watch

import "errors"

// events are not used here: kqueue wants an open descriptor for every file in a
// folder, which for captures are too many.
type events struct{ C chan []event }

func openEvents() (*events, error) { return nil, errors.New("no events on this system") }

func (*events) close()            {}
func (*events) add(string) error  { return nil }
func (*events) drop(string, bool) {}
func (*events) begin()            {}
func (*events) prune()            {}
