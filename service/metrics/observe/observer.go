package observe

import (
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"capagent/internal/quote"
)

// Observer counts what a status can't tell: how long steps take and how they end,
// and how often a cache spared a look-up. A nil Observer counts nothing, so that
// who tells it needs no if. It may be used by many goroutines.
type Observer struct {
	steps        *prometheus.HistogramVec
	hits, misses *prometheus.CounterVec
}

// buckets reach from a step that had nothing to do to an upload over a thin line,
// in seconds.
var buckets = []float64{0.01, 0.1, 0.5, 1, 5, 15, 60, 300, 1800, 7200}

// NewObserver returns an Observer that has seen nothing.
func NewObserver() *Observer {
	source := []string{"source"}
	return &Observer{
		steps: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "capagent_step_seconds", Buckets: buckets,
			Help: "How long one attempt at a step took, by how it ended.",
		}, []string{"step", "outcome"}),
		hits: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "capagent_lookup_cache_hits_total",
			Help: "Look-ups that were answered from what a source had said before.",
		}, source),
		misses: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "capagent_lookup_cache_misses_total",
			Help: "Look-ups that a source had to be asked for.",
		}, source),
	}
}

// Step notes one attempt at a step of a capture. Both names are words of ours:
// the step's, and "done", "skipped" or what failure.Kind says.
func (o *Observer) Step(name, outcome string, d time.Duration) {
	if o != nil {
		o.steps.WithLabelValues(Word(name), Word(outcome)).Observe(max(0, d.Seconds()))
	}
}

// Lookup notes how many indicators a source's answers were at hand for, and how
// many it was asked for. source is its name in the configuration.
func (o *Observer) Lookup(source string, hits, misses int) {
	if o != nil {
		o.hits.WithLabelValues(Label(source)).Add(float64(max(0, hits)))
		o.misses.WithLabelValues(Label(source)).Add(float64(max(0, misses)))
	}
}

// Describe makes the Observer a prometheus.Collector.
func (o *Observer) Describe(to chan<- *prometheus.Desc) {
	if o != nil {
		o.steps.Describe(to)
		o.hits.Describe(to)
		o.misses.Describe(to)
	}
}

// Collect makes the Observer a prometheus.Collector.
func (o *Observer) Collect(to chan<- prometheus.Metric) {
	if o != nil {
		o.steps.Collect(to)
		o.hits.Collect(to)
		o.misses.Collect(to)
	}
}

const (
	longestWord  = 40
	longestLabel = 256 // bytes
)

// Word returns s as the value of a label where only words of ours belong. What is
// none (it may be a server's text, and each would be a series of its own) is "other".
func Word(s string) string {
	other := func(r rune) bool { return r != '_' && r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') }
	if s == "" || len(s) > longestWord || strings.ContainsFunc(s, other) {
		return "other"
	}
	return s
}

// Label returns a name of the configuration as the value of a label: valid UTF-8 on
// one line, cut where it is very long.
func Label(s string) string {
	s = quote.Text(s)
	if len(s) > longestLabel {
		s = strings.ToValidUTF8(s[:longestLabel], "")
	}
	return s
}
