package bundle

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"capagent/internal/config"
	"capagent/internal/ledger"
	"capagent/internal/safefile"
	"capagent/service/control"
	"capagent/service/doctor"
)

func (b *bundle) version() any {
	return map[string]string{"version": b.Version, "go": runtime.Version(), "os": runtime.GOOS, "arch": runtime.GOARCH}
}

// system has no name of the machine: that is in the configuration, if anywhere.
func (b *bundle) system() any {
	v := map[string]any{
		"os": runtime.GOOS, "arch": runtime.GOARCH, "kernel": b.System, "processors": runtime.NumCPU(),
		"uid": os.Geteuid(), "time": b.Now.UTC().Format(time.RFC3339), "time_zone": b.Now.Format("-07:00"),
	}
	if text, err := read("/usr/lib/os-release", 64<<10); err == nil {
		v["distribution"] = assigned(text, "PRETTY_NAME=")
	}
	if text, err := read("/proc/meminfo", 64<<10); err == nil {
		v["memory"] = assigned(text, "MemTotal:")
	}
	// That a proxy is set matters; its address may hold a password.
	var proxies []string
	for _, name := range []string{"HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "https_proxy", "http_proxy", "no_proxy"} {
		if os.Getenv(name) != "" {
			proxies = append(proxies, name)
		}
	}
	v["proxies_set"] = proxies
	return v
}

// assigned is what stands behind the first line that begins with key.
func assigned(text []byte, key string) string {
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), key); ok {
			return strings.Trim(strings.TrimSpace(value), `"`)
		}
	}
	return ""
}

// read returns at most so many bytes of the end of a file.
func read(name string, most int64) ([]byte, error) {
	f, info, err := safefile.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	if over := info.Size() - most; over > 0 {
		if _, err := f.Seek(over, io.SeekStart); err != nil {
			return nil, err
		}
	}
	return io.ReadAll(io.LimitReader(f, most))
}

// indicators are keys of the configuration that hold some.
var indicators = []string{".exclude", ".block_on", ".block_never"}

func (b *bundle) configuration() any {
	rows := slices.Clone(b.Values)
	for i := range rows {
		if slices.ContainsFunc(indicators, func(key string) bool { return strings.HasSuffix(rows[i].Key, key) }) && !b.WithNames {
			rows[i].Value = hidden
		}
	}
	if rows == nil {
		rows = []config.Row{}
	}
	return map[string]any{"errors": orNone(b.Errors), "warnings": orNone(b.Warnings), "values": rows}
}

func orNone(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

func (b *bundle) report() doctor.Report {
	r := b.Doctor
	r.Checks = slices.Clone(r.Checks)
	for i := range r.Checks {
		if c := &r.Checks[i]; c.Names {
			c.Detail, c.Fix = b.hide.text(c.Detail), b.hide.text(c.Fix)
		}
	}
	return r
}

// status is s without names.
func (b *bundle) status(s control.Status) control.Status {
	if b.WithNames {
		return s
	}
	s.Pauses = slices.Clone(s.Pauses)
	for i := range s.Pauses {
		s.Pauses[i].Reason = b.hide.text(s.Pauses[i].Reason)
	}
	if s.Agent == nil {
		return s
	}
	a := *s.Agent
	a.Text = b.hide.text(a.Text)
	a.ConfigError = b.hide.optional(a.ConfigError)
	a.Destination.Reason, a.Destination.Hint = b.hide.optional(a.Destination.Reason), b.hide.optional(a.Destination.Hint)
	each(&a.Uploading, func(u *control.Uploading) { u.Name = hidden })
	each(&a.Problems, func(p *control.Problem) { p.Text, p.Hint = b.hide.text(p.Text), b.hide.optional(p.Hint) })
	each(&a.Watches, func(w *control.Watch) { w.Error = b.hide.optional(w.Error) })
	each(&a.Captures, func(c *control.Capture) { c.Problem = b.hide.optional(c.Problem) })
	each(&a.Names, func(n *control.Names) { n.Text, n.Error = b.hide.text(n.Text), b.hide.optional(n.Error) })
	each(&a.Blocked, func(c *control.Blocked) { c.MAC, c.Name, c.Reason = hidden, hidden, hidden })
	s.Agent = &a
	return s
}

// each changes copies.
func each[T any](list *[]T, change func(*T)) {
	*list = slices.Clone(*list)
	for i := range *list {
		change(&(*list)[i])
	}
}

func (b *bundle) counts(ctx context.Context) {
	if b.Ledger == nil {
		b.missing("counts.json", "there is no ledger, or it can't be read")
		return
	}
	sum, err := b.Ledger.Counts(ctx)
	if err != nil {
		b.missing("counts.json", b.hide.text(err.Error()))
		return
	}
	deliveries, err := b.Ledger.DeliveryCounts(ctx, "cado")
	if err != nil {
		deliveries = map[ledger.DeliveryState]int64{}
	}
	b.object("counts.json", "how many captures and deliveries are where", map[string]any{
		"captures": sum.States, "oldest_queued": known(sum.OldestQueued), "possible_duplicates": sum.PossibleDuplicates, "flagged": sum.Flagged,
		"cado": deliveries, "rebuilt": known(b.Ledger.Rebuilt()),
	})
}

// known is null where there is no such time.
func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
