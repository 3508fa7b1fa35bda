package daemon

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// Problem is something that a person should know while it lasts. The agent works
// on as far as it can, and goes on by itself when the cause is gone.
type Problem struct {
	Class string // stable: "disk_full", "folder_unavailable"
	About string // the folder, file or table that is concerned, "" when the agent is
	Text  string
	Hint  string
	Since time.Time
	Count int // how often it was met
}

// problems are those that last. Each is told when it begins and when it ends.
type problems struct {
	log zerolog.Logger

	mu  sync.Mutex
	now map[problemKey]*Problem
}

type problemKey struct{ class, about string }

// maxProblems bounds what a hostile folder can make us remember.
const maxProblems = 100

func newProblems(log zerolog.Logger) *problems {
	return &problems{log: log, now: map[problemKey]*Problem{}}
}

// raise notes a problem, or that it goes on. It reports whether it is new.
func (p *problems) raise(class, about, text, hint string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := problemKey{class, about}
	if known := p.now[key]; known != nil {
		known.Count++
		known.Text, known.Hint = text, hint
		return false
	}
	if len(p.now) < maxProblems {
		p.now[key] = &Problem{Class: class, About: about, Text: text, Hint: hint, Since: time.Now().UTC(), Count: 1}
	}
	event := p.log.Warn().Str("class", class)
	if about != "" {
		event = event.Str("about", about)
	}
	if hint != "" {
		event = event.Str("hint", hint)
	}
	event.Msg(text)
	return true
}

// clear ends a problem; it returns it, or nil when there was none.
func (p *problems) clear(class, about string) *Problem {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := problemKey{class, about}
	known := p.now[key]
	if known == nil {
		return nil
	}
	delete(p.now, key)
	event := p.log.Info().Str("class", class).Dur("lasted", time.Since(known.Since)).Int("count", known.Count)
	if about != "" {
		event = event.Str("about", about)
	}
	event.Msg("over: " + known.Text)
	return known
}

// list returns the problems that last, the oldest first.
func (p *problems) list() []Problem {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]Problem, 0, len(p.now))
	for _, one := range p.now {
		out = append(out, *one)
	}
	slices.SortFunc(out, func(a, b Problem) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Class, b.Class), cmp.Compare(a.About, b.About))
	})
	return out
}
