// Package doctor looks whether an agent can do its work by its configuration, before
// it does, and says of each thing that stands in its way how to mend it.
//
// Nothing is changed and nothing is sent but one harmless question to each service.
// The checks run side by side, each for a bounded time, and come out in one order.
package doctor

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/rs/zerolog"

	"capagent/capture/live"
	"capagent/internal/paths"
	"capagent/service"
	"capagent/service/control"
)

// Result is how a check ended.
type Result string

// The results of a check. A warning stands in nobody's way yet; what was skipped could
// not be looked at, for a reason that another check tells or that is no fault.
const (
	OK   Result = "ok"
	Warn Result = "warn"
	Fail Result = "fail"
	Skip Result = "skip"
)

// Class is what kind of failure a check has found.
type Class string

// The classes, the gravest first: what comes behind often has its cause before.
const (
	Configuration Class = "config"
	Permission    Class = "permission"
	Unavailable   Class = "unavailable" // a service can't be used
	Failed        Class = "failed"
)

// Classes lists them, the gravest first.
var Classes = []Class{Configuration, Permission, Unavailable, Failed}

// Check is one thing that was looked at.
type Check struct {
	ID     string `json:"id"` // stable: "state", "capture[0]", "cloudshark.token"
	Title  string `json:"title"`
	Result Result `json:"result"`
	Detail string `json:"detail"`          // lines for people
	Fix    string `json:"fix,omitempty"`   // a command, or what to set: there where the result is warn or fail
	Class  Class  `json:"class,omitempty"` // of a failure
	// Names says that Detail may hold the names of captured files.
	Names bool `json:"-"`
}

// Report is all that was looked at, in the order of what depends on what.
type Report struct {
	OK     bool    `json:"ok"` // nothing failed
	Checks []Check `json:"checks"`
}

// Gravest returns the class of the gravest failure, "" when there is none.
func (r Report) Gravest() Class {
	for _, class := range Classes {
		if slices.ContainsFunc(r.Checks, func(c Check) bool { return c.Result == Fail && c.Class == class }) {
			return class
		}
	}
	return ""
}

// Count says how many checks had a result.
func (r Report) Count(result Result) (n int) {
	for _, c := range r.Checks {
		if c.Result == result {
			n++
		}
	}
	return n
}

// Options say what to look at.
type Options struct {
	Config  service.Config // of a wrong one, what was right
	Wrong   error          // what is wrong with it
	Places  paths.Paths    // where the configuration may be
	Control control.Where  // where the agent is reached
	Version string         // of this program
	Log     zerolog.Logger
	// Denied says that a service's refusal is a matter of permission.
	Denied func(error) bool

	// For tests.
	limit      time.Duration
	proc       string
	interfaces func() ([]live.Interface, error)
}

// limit is how long a check may take.
const limit = 10 * time.Second

// examination is one run of all checks.
type examination struct {
	Options
	asked  chan struct{} // closed when it is known whether an agent runs
	status control.Status
	silent error // why there is no status
}

// job is what finds out about one thing, or a few that belong together.
type job struct {
	id, title string // of the check that tells that it did not end
	run       func(ctx context.Context) []Check
}

// Run looks at everything. It ends soon, also where a file server or a name server
// does not answer: what still waits for one then is left behind.
func Run(ctx context.Context, o Options) Report {
	x := &examination{Options: o, asked: make(chan struct{})}
	if x.limit == 0 {
		x.limit = limit
	}
	if x.proc == "" {
		x.proc = "/proc"
	}
	if x.interfaces == nil {
		x.interfaces = live.Interfaces
	}
	ctx, stop := context.WithTimeout(ctx, x.limit)
	defer stop()
	go x.ask(ctx)
	jobs := x.jobs()
	found := make([]chan []Check, len(jobs))
	for i, j := range jobs {
		found[i] = make(chan []Check, 1) // who comes late blocks nobody
		go func() { found[i] <- j.run(ctx) }()
	}
	// Who heeds the limit has a moment to say what it knows.
	late := time.NewTimer(x.limit + x.limit/10)
	defer late.Stop()
	over := false
	var r Report
	for i, j := range jobs {
		r.Checks = append(r.Checks, x.await(j, found[i], late.C, &over)...)
	}
	r.OK = r.Count(Fail) == 0
	return r
}

func (x *examination) await(j job, found <-chan []Check, late <-chan time.Time, over *bool) []Check {
	if !*over {
		select {
		case checks := <-found:
			return checks
		case <-late:
			*over = true
		}
	}
	select {
	case checks := <-found:
		return checks
	default:
		return []Check{about(j.id, j.title).fail(Failed, "see whether its disk or its server answers, and look again: capagent doctor",
			"there was no answer within %s", x.limit)}
	}
}

// jobs lists what there is to look at by the configuration, in the order of the report.
func (x *examination) jobs() []job {
	jobs := []job{
		{"config", "configuration", x.config},
		{"state", "state directory", x.state},
		{"space", "free space", x.space},
		{"ledger", "ledger", x.ledger},
		{"agent", "agent", x.agent},
	}
	jobs = append(jobs, x.sandbox()...)
	jobs = append(jobs, x.captures()...)
	jobs = append(jobs, x.watches()...)
	return append(jobs, x.services()...)
}

func about(id, title string) Check { return Check{ID: id, Title: title} }

func (c Check) ok(format string, args ...any) Check {
	c.Result, c.Detail = OK, fmt.Sprintf(format, args...)
	return c
}

func (c Check) skip(format string, args ...any) Check {
	c.Result, c.Detail = Skip, fmt.Sprintf(format, args...)
	return c
}

func (c Check) warn(fix, format string, args ...any) Check {
	c.Result, c.Fix, c.Detail = Warn, fix, fmt.Sprintf(format, args...)
	return c
}

func (c Check) fail(class Class, fix, format string, args ...any) Check {
	c.Result, c.Class, c.Fix, c.Detail = Fail, class, fix, fmt.Sprintf(format, args...)
	return c
}

func one(c Check) []Check { return []Check{c} }
