//go:build linux

package faulttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Verdict is what became of everything that was dropped.
type Verdict struct {
	Lost     []string // no session holds it
	Twice    []string // more than one does
	Stray    []string // sessions of nothing that was ever there
	Files    []string // files that are not where they should be, or not what they were
	Broken   []string // ledger and program
	Versions int      // sessions of what a slow file was for a while: true, but early
	Parked   int      // records of such versions that were gone before they could be sent
	Sessions int
}

// OK says that nothing is wrong.
func (v *Verdict) OK() bool {
	return len(v.Lost)+len(v.Twice)+len(v.Stray)+len(v.Files)+len(v.Broken) == 0
}

// String lists what is wrong, the first few of each kind.
func (v *Verdict) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d sessions", v.Sessions)
	if v.Versions > 0 {
		fmt.Fprintf(&b, ", %d of early versions", v.Versions)
	}
	if v.Parked > 0 {
		fmt.Fprintf(&b, ", %d early versions parked", v.Parked)
	}
	for _, kind := range []struct {
		name string
		list []string
	}{{"lost", v.Lost}, {"twice", v.Twice}, {"stray", v.Stray}, {"files", v.Files}, {"broken", v.Broken}} {
		if len(kind.list) > 0 {
			fmt.Fprintf(&b, "\n%d %s:", len(kind.list), kind.name)
			for _, s := range kind.list[:min(len(kind.list), 8)] {
				fmt.Fprintf(&b, "\n  %s", s)
			}
		}
	}
	return b.String()
}

// Sessions judges the sessions: each content that was dropped is in exactly one,
// byte for byte.
func (v *Verdict) judgeSessions(dropped []*Dropped, sessions []Session) {
	v.Sessions = len(sessions)
	want := map[string][]*Dropped{}
	for _, d := range dropped {
		want[d.Payload] = append(want[d.Payload], d)
	}
	have := map[string][]Session{}
	for _, s := range sessions {
		data, err := os.ReadFile(s.Path)
		if err != nil || Sum(data) != s.SHA256 {
			v.Broken = append(v.Broken, fmt.Sprintf("session %s does not hold what it says: %v", s.ID, err))
			continue
		}
		if want[s.SHA256] == nil && isVersion(data, dropped) {
			v.Versions++
		} else if want[s.SHA256] == nil {
			v.Stray = append(v.Stray, fmt.Sprintf("session %s (%s, %d bytes): nothing like it was dropped\n    %s", s.ID, s.Filename, s.Size, s.Comments))
		}
		have[s.SHA256] = append(have[s.SHA256], s)
	}
	for sum, list := range want {
		if len(have[sum]) == 0 && !allUnsure(list) {
			v.Lost = append(v.Lost, fmt.Sprintf("%s (%s, seed %d) has no session", list[0].Path, list[0].How, list[0].Seed))
		}
	}
	for sum, list := range have {
		if len(list) > 1 {
			first, last := list[0], list[len(list)-1]
			v.Twice = append(v.Twice, fmt.Sprintf("%s: %d sessions: %s %s at %s, %s %s at %s", nameOf(want[sum]), len(list),
				first.ID, first.Filename, first.Created, last.ID, last.Filename, last.Created))
		}
	}
}

func allUnsure(list []*Dropped) bool {
	for _, d := range list {
		if !d.Unsure {
			return false
		}
	}
	return true
}

func nameOf(list []*Dropped) string {
	if len(list) == 0 {
		return "an early version"
	}
	return list[0].Path + " (" + list[0].How + ")"
}

// isVersion says whether data is what a file was for a while: the beginning of
// one that was written slowly, or what a power cut left of one that was not
// synced.
func isVersion(data []byte, dropped []*Dropped) bool {
	for _, d := range dropped {
		if d.How != Slow && d.How != Big && !d.Unsure {
			continue
		}
		whole := Capture(d.Seed, d.Size)
		if len(data) < len(whole) && bytes.HasPrefix(whole, data) {
			return true
		}
		if written := bytes.TrimRight(data, "\x00"); d.Unsure && len(data) <= len(whole) && bytes.HasPrefix(whole, written) {
			return true
		}
	}
	return false
}

// judgeFiles wants every file where the watch's After says.
func (v *Verdict) judgeFiles(w Watch, dropped []*Dropped) {
	sums := map[string]int{}
	where := w.Path
	switch w.After {
	case "move":
		where = w.To
	case "delete":
		where = ""
	}
	if where != "" {
		v.note(filepath.WalkDir(where, func(path string, e fs.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return err
			}
			data, err := os.ReadFile(path)
			sums[Sum(data)]++
			return err
		}))
	}
	for _, d := range dropped {
		if d.How == Handed || d.Unsure {
			continue
		}
		if where != "" && sums[d.File] == 0 {
			v.Files = append(v.Files, fmt.Sprintf("%s (%s): its bytes are nowhere in %s", d.Path, d.How, where))
		}
		if where != "" {
			sums[d.File]--
		}
		if w.After != "keep" {
			if _, err := os.Lstat(d.Path); !errors.Is(err, fs.ErrNotExist) {
				v.Files = append(v.Files, fmt.Sprintf("%s (%s): still there (after = %q)", d.Path, d.How, w.After))
			}
		}
	}
}

func (v *Verdict) note(err error) {
	if err != nil {
		v.Broken = append(v.Broken, err.Error())
	}
}

// judgeLedger has SQLite and the agent look at the database.
func (v *Verdict) judgeLedger(ctx context.Context, a *Agent, dropped []*Dropped) {
	out, err := exec.CommandContext(ctx, "sqlite3", a.Ledger(), "PRAGMA integrity_check").CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "ok" {
		v.Broken = append(v.Broken, fmt.Sprintf("integrity_check: %v %s", err, out))
	}
	if aside, err := filepath.Glob(a.Ledger() + ".damaged*"); err != nil || len(aside) > 0 {
		v.Broken = append(v.Broken, fmt.Sprintf("a ledger was set aside: %v %v", aside, err))
	}
	loose := slices.ContainsFunc(dropped, func(d *Dropped) bool { return d.Unsure })
	v.note(a.Verify(ctx, loose))
	captures, err := a.List(ctx)
	v.note(err)
	final := map[string]bool{}
	for _, d := range dropped {
		final[d.Path+d.File] = !d.Unsure // a path is empty where the agent chose it
	}
	for _, c := range captures {
		ended := c.State == "done" || c.State == "purged"
		switch {
		case ended && c.SessionID != "":
		case (ended || c.State == "failed" || c.State == "quarantined") && !final[c.Path+c.SHA256] && !final[c.SHA256]:
			v.Parked++
		default:
			v.Broken = append(v.Broken, fmt.Sprintf("capture %d (%s) is %s at the end, without a session: %s", c.ID, c.Path, c.State, text(c.Error)))
		}
	}
}

// judgeDeletions wants every deletion in the ledger.
func (v *Verdict) judgeDeletions(ctx context.Context, a *Agent, feeders []*Feeder) {
	captures, err := a.List(ctx)
	v.note(err)
	states := map[string]string{}
	for _, c := range captures {
		states[c.Path+c.SHA256] = c.State
	}
	for _, f := range feeders {
		for _, d := range f.Dropped() {
			state := states[d.Path+d.File]
			if f.watch.After != "delete" || d.Unsure || d.How == Handed || state == "purged" {
				continue
			}
			if _, err := os.Lstat(d.Path); errors.Is(err, fs.ErrNotExist) {
				v.Files = append(v.Files, fmt.Sprintf("%s (%s): deleted without a record: its capture is %q", d.Path, d.How, state))
			}
		}
	}
}

func text(s *string) string {
	if s == nil {
		return "no reason given"
	}
	return *s
}

// Judge looks at everything there is when the agent has nothing left to do.
func Judge(ctx context.Context, a *Agent, s *Sandbox, feeders ...*Feeder) *Verdict {
	v := &Verdict{}
	var all []*Dropped
	for _, f := range feeders {
		v.note(f.Wait())
		list := f.Dropped()
		v.judgeFiles(f.watch, list)
		all = append(all, list...)
	}
	sessions, err := s.Sessions()
	v.note(err)
	v.judgeSessions(all, sessions)
	v.judgeLedger(ctx, a, all)
	v.judgeDeletions(ctx, a, feeders)
	return v
}

// Settled says whether nothing is left to do: every dropped capture has a session
// and, where files are to go, is gone, and the ledger knows of it.
func Settled(ctx context.Context, a *Agent, s *Sandbox, feeders ...*Feeder) (bool, error) {
	sessions, err := s.Sessions()
	if err != nil {
		return false, err
	}
	have := map[string]bool{}
	for _, one := range sessions {
		have[one.SHA256] = true
	}
	for _, f := range feeders {
		for _, d := range f.Dropped() {
			if !have[d.Payload] && !d.Unsure {
				return false, nil
			}
			if f.watch.After == "keep" || d.How == Handed || d.Unsure {
				continue
			}
			if _, err := os.Lstat(d.Path); err == nil {
				return false, nil
			}
		}
	}
	status, err := a.Status(ctx)
	return err == nil && status.Count("queued")+status.Count("sealed") == 0, err
}
