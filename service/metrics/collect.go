package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"capagent/internal/ledger"
	"capagent/service"
	"capagent/service/control"
	"capagent/service/metrics/observe"
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("capagent_"+name, help, labels, nil)
}

// What a status is turned into. docs/metrics.md has a line for each.
var (
	up        = desc("up", "Whether the agent could say how it fares (1) or not (0).")
	collected = desc("collected_timestamp_seconds", "When these numbers were collected; an old time means that nobody does it any more.")
	info      = desc("info", "Always 1; the labels say which agent this is.", "version")
	started   = desc("start_timestamp_seconds", "When the agent started.")

	captures      = desc("captures", "Captures in the ledger, by state.", "state")
	capturesBytes = desc("captures_bytes", "Size of the captures in the ledger, by state.", "state")
	flagged       = desc("captures_flagged", "Captures with findings.")
	duplicates    = desc("captures_possible_duplicates", "Captures that may have a second session in the destination.")
	backlogAge    = desc("backlog_age_seconds", "How long ago the oldest queued capture was recorded; 0 when none is queued.")

	destinationState = desc("destination_state", "1 for the state that the destination is in: open, paused, or probing (one capture goes first).", "state")
	uploading        = desc("uploading", "Captures on their way to the destination.")

	liveState   = desc("live_state", "1 for the state that the live capture is in: capturing, waiting (it can't be opened), or scheduled.", "capture", "state")
	livePackets = desc("live_packets_total", "Packets captured.", "capture")
	liveDropped = desc("live_dropped_packets_total", "Packets that are in no file: the kernel had no room in memory for them (kernel), or they could not be written (disk).", "capture", "cause")
	liveBytes   = desc("live_bytes_total", "Bytes written to capture files.", "capture")
	liveFiles   = desc("live_files_total", "Capture files completed.", "capture")

	watchFiles   = desc("watch_files", "Files in a watched folder.", "folder")
	watchPending = desc("watch_pending_files", "Files in a watched folder that are not known to be complete yet.", "folder")

	diskFree    = desc("disk_free_bytes", "Room on the file system of the state directory.")
	diskMinFree = desc("disk_min_free_bytes", "Room that is to stay free, as configured; 0 is no limit.")
	spoolBytes  = desc("spool_bytes", "Size of the agent's own captures on the disk.")

	problems   = desc("problems", "Problems that last, by class. Classes without a problem are missing.", "class")
	namesAge   = desc("names_age_seconds", "How long ago a source of names for machines last answered.", "source")
	deliveries = desc("deliveries", "Captures that are brought elsewhere besides, by how that stands.", "destination", "state")
	blocked    = desc("blocked_clients", "Clients of a network that this agent blocks now.")

	descs = []*prometheus.Desc{
		up, collected, info, started, captures, capturesBytes, flagged, duplicates, backlogAge, destinationState, uploading,
		liveState, livePackets, liveDropped, liveBytes, liveFiles, watchFiles, watchPending,
		diskFree, diskMinFree, spoolBytes, problems, namesAge, deliveries, blocked,
	}
)

// snapshot is the agent at a moment, as a prometheus.Collector.
type snapshot struct {
	status control.Status
	err    error // no status was to be had
	at     time.Time
}

// Describe makes the snapshot a prometheus.Collector.
func (s snapshot) Describe(to chan<- *prometheus.Desc) {
	for _, d := range descs {
		to <- d
	}
}

// Collect makes the snapshot a prometheus.Collector.
func (s snapshot) Collect(to chan<- prometheus.Metric) {
	p := page{to, map[series]bool{}}
	p.gauge(up, flag(s.err == nil))
	p.gauge(collected, seconds(s.at))
	if s.err != nil {
		return
	}
	v := s.status
	p.gauge(info, 1, observe.Label(v.Version))
	p.gauge(flagged, float64(v.Flagged))
	p.gauge(duplicates, float64(v.PossibleDuplicates))
	if v.Captures != nil { // nil: the ledger could not be read
		for _, state := range ledger.States {
			n := v.Captures[state]
			p.gauge(captures, float64(n.Captures), string(state))
			p.gauge(capturesBytes, float64(n.Bytes), string(state))
		}
		p.gauge(backlogAge, s.age(v.OldestQueued))
	}
	if v.Agent != nil {
		s.agent(p, v.Agent)
	}
}

// agent tells what only a running agent knows.
func (s snapshot) agent(p page, a *control.Agent) {
	p.gauge(started, seconds(a.Started))
	for _, state := range []service.DoorState{service.DoorOpen, service.DoorPaused, service.DoorProbing} {
		p.gauge(destinationState, flag(a.Destination.State == state), string(state))
	}
	p.gauge(uploading, float64(len(a.Uploading)))
	for _, c := range a.Captures {
		live(p, c)
	}
	for _, w := range a.Watches {
		folder := observe.Label(w.Path)
		p.gauge(watchFiles, float64(w.Files), folder)
		p.gauge(watchPending, float64(w.Pending), folder)
	}
	p.gauge(diskFree, float64(a.Disk.Free))
	p.gauge(diskMinFree, float64(a.Disk.MinFree))
	p.gauge(spoolBytes, float64(a.Disk.SpoolBytes))
	classes := map[string]int{}
	for _, one := range a.Problems {
		classes[observe.Word(one.Class)]++
	}
	for class, n := range classes {
		p.gauge(problems, float64(n), class)
	}
	for _, n := range a.Names {
		if n.At != nil {
			p.gauge(namesAge, s.age(n.At), observe.Label(n.Source))
		}
	}
	for _, d := range a.Deliveries {
		to := observe.Label(d.Destination)
		p.gauge(deliveries, float64(d.Pending), to, "pending")
		p.gauge(deliveries, float64(d.Done), to, "done")
		p.gauge(deliveries, float64(d.Failed), to, "failed")
		p.gauge(deliveries, float64(d.Skipped), to, "skipped")
	}
	p.gauge(blocked, float64(len(a.Blocked)))
}

func live(p page, c control.Capture) {
	name := observe.Label(c.Name)
	for _, state := range []control.CaptureState{control.Capturing, control.Waiting, control.Scheduled} {
		p.gauge(liveState, flag(c.State == state), name, string(state))
	}
	p.counter(livePackets, float64(c.Packets), name)
	p.counter(liveDropped, float64(c.Dropped), name, "kernel")
	p.counter(liveDropped, float64(c.Lost), name, "disk")
	p.counter(liveBytes, float64(c.Bytes), name)
	p.counter(liveFiles, float64(c.Files), name)
}

// age is how long ago at was; a clock that was set back makes nothing negative.
func (s snapshot) age(at *time.Time) float64 {
	if at == nil {
		return 0
	}
	return max(0, s.at.Sub(*at).Seconds())
}

// page is what is handed out. A second value for a series, as where a capture
// ends and waits in the same moment, is left out: it would be an error.
type page struct {
	to   chan<- prometheus.Metric
	seen map[series]bool
}

type series struct {
	desc   *prometheus.Desc
	labels [2]string
}

func (p page) gauge(d *prometheus.Desc, value float64, labels ...string) {
	p.put(d, prometheus.GaugeValue, value, labels)
}

func (p page) counter(d *prometheus.Desc, value float64, labels ...string) {
	p.put(d, prometheus.CounterValue, value, labels)
}

func (p page) put(d *prometheus.Desc, kind prometheus.ValueType, value float64, labels []string) {
	key := series{desc: d}
	copy(key.labels[:], labels)
	if p.seen[key] {
		return
	}
	p.seen[key] = true
	m, err := prometheus.NewConstMetric(d, kind, value, labels...)
	if err != nil {
		m = prometheus.NewInvalidMetric(d, err)
	}
	p.to <- m
}

func flag(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
