package main

import (
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
)

// progress is the one bar of a command: bytes, rate and time left on a
// terminal, nothing elsewhere. Its methods may be called from any goroutine,
// and on nil.
type progress struct {
	mu  sync.Mutex
	bar *progressbar.ProgressBar
}

// newProgress returns nil where a bar would only be noise.
func (a *app) newProgress(what string, total int64) *progress {
	if a.quiet || a.json || a.noProgress || !a.onTerminal {
		return nil
	}
	return &progress{bar: progressbar.NewOptions64(total,
		progressbar.OptionSetWriter(a.stderr),
		progressbar.OptionSetDescription(what),
		progressbar.OptionShowBytes(true),
		progressbar.OptionUseIECUnits(true),
		progressbar.OptionSetPredictTime(true),
		progressbar.OptionFullWidth(),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionClearOnFinish(),
		progressbar.OptionSetTheme(progressbar.Theme{Saucer: "=", SaucerHead: ">", SaucerPadding: " ", BarStart: "[", BarEnd: "]"}),
	)}
}

func (p *progress) add(n int64) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	// A repeated upload sends bytes again; the bar stays below its end until
	// the work is over.
	if s := p.bar.State(); s.CurrentNum+n < s.Max {
		_ = p.bar.Add64(n) // a bar that can't be drawn is no reason to stop
	}
}

func (p *progress) grow(n int64) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bar.ChangeMax64(p.bar.GetMax64() + n)
}

// restart begins the next phase of the same command.
func (p *progress) restart(what string, total int64) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.bar.Clear() // Reset forgets what is on the screen
	p.bar.Reset()
	p.bar.ChangeMax64(total)
	p.bar.Describe(what)
}

// describe changes the words before the bar.
func (p *progress) describe(what string) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bar.Describe(what)
}

// clear takes the bar off the screen.
func (p *progress) clear() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.bar.Clear() // as in add: nothing depends on it
}
