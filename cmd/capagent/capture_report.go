package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize"

	"capagent/capture"
	"capagent/capture/filter"
	"capagent/capture/filter/display"
	"capagent/capture/live"
	"capagent/internal/ledger"
	"capagent/internal/packet"
	"capagent/internal/pcapio"
	"capagent/internal/quote"
	"capagent/service/capturing"
)

// captureResult is what `capture --json` prints.
type captureResult struct {
	Path       string             `json:"path"`
	Format     pcapio.Format      `json:"format"`
	Size       int64              `json:"size"`
	Packets    uint64             `json:"packets"`
	Dropped    uint64             `json:"dropped"`
	First      *time.Time         `json:"first"`
	Last       *time.Time         `json:"last"`
	Seconds    float64            `json:"seconds"`
	End        capturing.End      `json:"end"`
	Filter     string             `json:"filter"`
	Interfaces []captureInterface `json:"interfaces"`
	Status     *int               `json:"status"` // of the command, null without one
	ID         *int64             `json:"id"`     // null for what the ledger does not hold
	State      *ledger.State      `json:"state"`
	SessionID  *string            `json:"session_id"`
	SessionURL *string            `json:"session_url"`
	FilterURL  *string            `json:"filter_url"` // the same with the display filter, null where there is none
	Error      *string            `json:"error"`
}

type captureInterface struct {
	Name     string `json:"name"`
	LinkType string `json:"link_type"`
	Received uint64 `json:"received"`
	Dropped  uint64 `json:"dropped"`
}

// bestInterface chooses where the user named none, and says so.
func (a *app) bestInterface() ([]string, error) {
	all, err := live.Interfaces()
	if err != nil {
		return nil, err
	}
	name := live.Best(all)
	if name == "" {
		return nil, usageError("no interface is up and has an address; name one with -i (`capagent interfaces` lists them)")
	}
	a.say("capturing on %s; -i names another", quote.Text(name))
	return []string{name}, nil
}

// cannotCapture gives the error of opening its exit code, and shows where a
// filter is wrong.
func (a *app) cannotCapture(opts captureOptions, err error) error {
	var wrong *filter.Error
	switch {
	case errors.As(err, &wrong):
		a.complain(err)
		fmt.Fprintln(a.stderr, pointAt(opts.filter, wrong.Pos))
		return exitWith(exitUsage, nil)
	case errors.Is(err, fs.ErrPermission):
		return exitWith(exitPermission, err)
	default:
		return err
	}
}

// pointAt shows a long text's surroundings of a position, and a mark below it.
func pointAt(text string, pos int) string {
	const around = 60
	from := max(0, min(pos, len(text))-around)
	to := min(len(text), pos+around)
	shown := quote.Text(text[from:to])
	mark := len(quote.Text(text[from:min(pos, len(text))]))
	return "  " + shown + "\n  " + strings.Repeat(" ", mark) + "^"
}

// events gathers what happens to the interfaces.
type events struct {
	mu   sync.Mutex
	list []capture.Event
}

func (e *events) add(event capture.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, event)
}

func (e *events) all() []capture.Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.list)
}

func (a *app) sayEvent(e capture.Event) {
	name := quote.Text(e.Interface)
	switch e.Kind {
	case capture.Down:
		a.say("%s is down; waiting for it", name)
	case capture.Up:
		a.say("%s is up again", name)
	case capture.Gone:
		a.say("%s is gone; waiting for it", name)
	case capture.Back:
		a.say("%s is back; nothing was captured for %s", name, e.Gap.Round(time.Millisecond))
	case capture.Renamed:
		a.say("%s is called %s now", quote.Text(e.Was), name)
	case capture.Blind:
		a.say("%s counts packets, but none arrives here", name)
	case capture.Seeing:
		a.say("packets of %s arrive again", name)
	}
}

// packets is a number of them in words.
func packets(n uint64) string {
	if n == 1 {
		return "1 packet"
	}
	return humanize.Comma(int64(n)) + " packets"
}

// sayCaptured tells what was captured, whatever ended it.
func (s *shot) sayCaptured() {
	r := &s.result
	s.say("%s, %s in %s; dropped by the kernel: %s", packets(r.Packets), humanize.IBytes(uint64(r.Size)),
		r.Took.Round(time.Second/10), humanize.Comma(int64(r.Dropped())))
	if r.Dropped() > 0 {
		s.hint("a larger --buffer (%s now), a filter or a smaller --snaplen loses less", s.opts.buffer.String())
	}
}

// report prints the result: the links, or the file where nothing is uploaded.
// failed has been said already.
func (s *shot) report(failed error) error {
	links := s.links()
	if s.json {
		return s.encode(s.captured(failed))
	}
	if s.agent == nil && (failed == nil || len(s.opts.command) > 0) {
		links = []string{s.path}
	}
	for _, link := range links {
		if _, err := fmt.Fprintln(s.stdout, link); err != nil {
			return err
		}
	}
	return nil
}

func (s *shot) captured(failed error) captureResult {
	r := &s.result
	out := captureResult{
		Path: s.path, Format: s.format, Size: r.Size, Packets: r.Packets, Dropped: r.Dropped(), Seconds: r.Took.Seconds(),
		End: r.End, Filter: s.opts.filter, Interfaces: captureInterfaces(r.Interfaces, r.Stats), First: instant(r.First), Last: instant(r.Last),
		ID: s.view.ID, SessionID: s.view.SessionID, SessionURL: s.view.SessionURL, Error: s.view.Error,
	}
	if s.child != nil {
		out.Status = &s.child.status
	}
	if s.view.State != "" {
		out.State = &s.view.State
	}
	if query := s.query(); query != "" && s.view.SessionURL != nil {
		link := *s.view.SessionURL + query
		out.FilterURL = &link
	}
	if failed != nil {
		text := failed.Error()
		out.Error = &text
	}
	return out
}

// links are those of the sessions, with the display filter of what was asked.
func (s *shot) links() (links []string) {
	query := s.query()
	for _, p := range s.view.Parts {
		if p.SessionURL != nil {
			links = append(links, *p.SessionURL+query)
		}
	}
	if len(links) == 0 && s.view.SessionURL != nil {
		links = []string{*s.view.SessionURL + query}
	}
	return links
}

// query is "" where the filter has no words in Wireshark's language.
func (s *shot) query() string {
	text, ok := display.Filter(s.opts.filter)
	if !ok {
		return ""
	}
	return "?filter=" + strings.ReplaceAll(url.QueryEscape(text), "+", "%20")
}

func captureInterfaces(interfaces []packet.Interface, stats []packet.Stats) []captureInterface {
	all := make([]captureInterface, len(interfaces))
	for i, in := range interfaces {
		all[i] = captureInterface{Name: in.Name, LinkType: pcapio.LinkTypeName(in.LinkType)}
		if i < len(stats) {
			all[i].Received, all[i].Dropped = stats[i].Received, stats[i].Dropped
		}
	}
	return all
}

// instant is t for JSON, null when there is none.
func instant(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
