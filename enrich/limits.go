package enrich

import (
	"capagent/enrich/flow"
	"capagent/enrich/frame"
	"capagent/enrich/indicator"
)

// explained are the limits in words.
var explained = map[indicator.Limit]string{
	indicator.LimitIndicators: "more different indicators than are kept; those met later are missing",
	indicator.LimitValue:      "a value was too long to be an indicator",
	indicator.LimitBindings:   "more pairs of hardware and IP addresses than are kept",
	frame.LimitLayers:         "headers within headers, deeper than is looked",
	frame.LimitFragments:      "an IP datagram's fragments were given up",
	flow.LimitFlows:           "more flows at once than are followed; the one that was silent for longest was taken as ended",
	flow.LimitAhead:           "TCP bytes that wait for missing ones before them were taken as they are",
	flow.LimitMemory:          "no memory was left for TCP segments out of order",
}

// Explain returns what a limit means, in words.
func Explain(l indicator.Limit) string {
	if text := explained[l]; text != "" {
		return text
	}
	return "something was not looked at"
}
