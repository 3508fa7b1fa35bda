package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"capagent/internal/traffic"
)

// sample is one run of a tool.
type sample struct {
	sent    traffic.Sent
	offered uint64 // packets that reached the interface
	files   traffic.Result
	cpu     time.Duration
	cost    cost
	rss     int64
	noise   float64 // per cent of one processor that others used meanwhile
}

// lost is in per cent of what was offered.
func (s sample) lost() float64 {
	if s.offered == 0 || s.files.Distinct >= s.offered {
		return 0
	}
	return 100 * float64(s.offered-s.files.Distinct) / float64(s.offered)
}

// perPacket is nanoseconds of processor time.
func (s sample) perPacket() float64 {
	return s.each(s.cpu)
}

// each is what d is for a packet.
func (s sample) each(d time.Duration) float64 {
	if s.files.Distinct == 0 {
		return 0
	}
	return float64(d.Nanoseconds()) / float64(s.files.Distinct)
}

// offeredRate is in thousands per second.
func (s sample) offeredRate() float64 { return float64(s.offered) / s.sent.Elapsed.Seconds() / 1e3 }

// resident is in MB.
func (s sample) resident() float64 { return float64(s.rss) / 1e6 }

// row is all runs of a tool.
type row struct {
	tool    tool
	samples []sample
	failed  error
}

func (r row) spread(value func(sample) float64) spread {
	var v []float64
	for _, s := range r.samples {
		v = append(v, value(s))
	}
	if len(v) == 0 {
		return spread{}
	}
	slices.Sort(v)
	return spread{median: v[len(v)/2], least: v[0], most: v[len(v)-1]}
}

type spread struct{ median, least, most float64 }

func (s spread) text(format string) string {
	median, least, most := fmt.Sprintf(format, s.median), fmt.Sprintf(format, s.least), fmt.Sprintf(format, s.most)
	if least == most {
		return median
	}
	return fmt.Sprintf("%s (%s–%s)", median, least, most)
}

// table prints the rows as markdown. CPU is compared with that of the tool called
// other.
func table(w io.Writer, title, other string, rows []row, asked []bound) error {
	var measure float64
	for _, r := range rows {
		if r.tool.name == other {
			measure = r.spread(sample.perPacket).median
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "### %s\n\n| tool | offered kpps | captured | lost %% | ns of CPU for a packet | of %s's | RSS MB | doubled | out of order |\n|---|---|---|---|---|---|---|---|---|\n", title, other)
	for _, r := range rows {
		name := strings.TrimSpace(r.tool.name + " " + r.tool.ring)
		switch {
		case len(r.samples) == 0 && r.failed != nil:
			fmt.Fprintf(&b, "| %s | failed, see below | | | | | | | |\n", name)
			continue
		case len(r.samples) == 0:
			fmt.Fprintf(&b, "| %s | not installed | | | | | | | |\n", name)
			continue
		}
		ratio := "–"
		if m := r.spread(sample.perPacket).median; measure > 0 && m > 0 {
			ratio = fmt.Sprintf("%.2f", m/measure)
		}
		fmt.Fprintf(&b, "| %s%s | %s | %s | %s | %s | %s | %s | %s | %s |\n", name, remark(r),
			r.spread(sample.offeredRate).text("%.0f"),
			r.spread(func(s sample) float64 { return float64(s.files.Distinct) }).text("%.0f"),
			r.spread(sample.lost).text("%.3g"),
			r.spread(sample.perPacket).text("%.0f"), ratio,
			r.spread(sample.resident).text("%.1f"),
			r.spread(func(s sample) float64 { return float64(s.files.Doubled) }).text("%.0f"),
			r.spread(func(s sample) float64 { return float64(s.files.Disordered) }).text("%.0f"))
	}
	for _, r := range rows {
		if r.failed != nil {
			fmt.Fprintf(&b, "\n%s: %v\n", r.tool.name, r.failed)
		}
		if r.tool.background > 0 {
			low := r.spread(func(s sample) float64 { return s.each(s.cost.low) })
			fmt.Fprintf(&b, "\n%s besides, at low priority and until all is done (hashes, inspection, ledger): %s ns of CPU for a packet\n", r.tool.name, low.text("%.0f"))
		}
	}
	for _, a := range asked {
		b.WriteString(strings.TrimSuffix("\n"+a.answer(rows), "\n"))
	}
	_, err := fmt.Fprintln(w, strings.TrimSuffix(b.String(), "\n")+"\n")
	return err
}

// bound is something that is asked of the first tool.
type bound struct {
	what string
	most float64
	seen func([]row) (float64, bool) // false where a tool did not run
}

// answer is a line; "" where nothing can be said.
func (a bound) answer(rows []row) string {
	seen, ok := a.seen(rows)
	if !ok {
		return ""
	}
	answer := "missed"
	if seen <= a.most {
		answer = "met"
	}
	return fmt.Sprintf("- %s at most %v: %.3g, %s\n", a.what, a.most, seen, answer)
}

func askedAt(size int) []bound {
	asked := []bound{lostAtMost(0), residentAtMost(128)}
	if size == 1500 {
		asked = append(asked, cpuAtMost(0.25, "tcpdump"), cpuAtMost(0.5, "netsniff-ng"), cpuAtMost(1, "stenotype"))
	}
	return asked
}

func lostAtMost(percent float64) bound {
	return bound{"lost %, the worst run,", percent, func(rows []row) (float64, bool) {
		return rows[0].spread(sample.lost).most, len(rows[0].samples) > 0
	}}
}

func residentAtMost(mb float64) bound {
	return bound{"RSS MB", mb, func(rows []row) (float64, bool) {
		return rows[0].spread(sample.resident).most, len(rows[0].samples) > 0
	}}
}

func cpuAtMost(part float64, of string) bound {
	return bound{"CPU of " + of + "'s", part, func(rows []row) (float64, bool) {
		first := rows[0].spread(sample.perPacket).median
		for _, r := range rows[1:] {
			if m := r.spread(sample.perPacket).median; r.tool.name == of && m > 0 && first > 0 {
				return first / m, true
			}
		}
		return 0, false
	}}
}

// remark names runs that are worth less than the others.
func remark(r row) string {
	loud := 0
	for _, s := range r.samples {
		if s.noise >= noisy {
			loud++
		}
	}
	if loud == 0 {
		return ""
	}
	return fmt.Sprintf(" (noisy: %d of %d)", loud, len(r.samples))
}
