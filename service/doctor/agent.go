package doctor

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"

	"capagent/internal/failure"
	"capagent/internal/quote"
	"capagent/service/control"
)

// ask finds out whether an agent runs, which several checks want to know.
func (x *examination) ask(ctx context.Context) {
	defer close(x.asked)
	ctx, stop := context.WithTimeout(ctx, x.limit/2)
	defer stop()
	client, err := control.Dial(ctx, x.Control)
	if err == nil {
		defer func() { _ = client.Close() }() // nothing is on its way
		x.status, err = client.Status(ctx)
	}
	x.silent = err
}

// running returns the agent, nil when none is known to run.
func (x *examination) running(ctx context.Context) *control.Agent {
	select {
	case <-x.asked:
	case <-ctx.Done():
		return nil
	}
	if x.silent != nil {
		return nil
	}
	return x.status.Agent
}

func (x *examination) agent(ctx context.Context) []Check {
	c := about("agent", "agent")
	c.Names = true
	agent := x.running(ctx)
	if ctx.Err() != nil && agent == nil {
		return one(c.fail(Unavailable, restart(), "the agent does not answer"))
	}
	if agent == nil {
		return one(x.unreached(c))
	}
	text := fmt.Sprintf("capagent %s runs since %s, pid %d: ", x.status.Version, agent.Started.UTC().Format(time.RFC3339), agent.PID)
	var bad, fixes []string
	if x.status.Version != x.Version {
		bad = append(bad, "this program is "+x.Version)
		fixes = append(fixes, restart())
	}
	if agent.ConfigError != nil {
		bad = append(bad, "its last reload failed: "+*agent.ConfigError)
		fixes = append(fixes, "correct the configuration; then: capagent reload")
	}
	for _, p := range agent.Problems {
		bad = append(bad, p.Text)
		if p.Hint != nil {
			fixes = append(fixes, *p.Hint)
		}
	}
	if d := agent.Destination; d.Reason != nil {
		bad = append(bad, "CloudShark takes nothing: "+*d.Reason)
		if d.Hint != nil {
			fixes = append(fixes, *d.Hint)
		}
	}
	if len(bad) == 0 {
		return one(c.ok("%s", text+agent.Text))
	}
	if len(fixes) == 0 {
		fixes = []string{"capagent status says more"}
	}
	return one(c.warn(strings.Join(fixes, "\n"), "%s\n%s", text+string(agent.State), strings.Join(bad, "\n")))
}

func (x *examination) unreached(c Check) Check {
	var f *failure.Error
	switch {
	case x.silent == nil || errors.Is(x.silent, control.ErrNoAgent):
		return c.warn("start it: "+asRoot("capagent service start")+", or in the foreground: capagent run", "none is running")
	case errors.As(x.silent, &f) && f.Class == "no_permission":
		fix := f.Hint
		if fix == "" {
			fix = asRoot("capagent doctor")
		}
		return c.fail(Permission, fix, "%v", x.silent)
	}
	return c.fail(Unavailable, restart(), "%v", x.silent)
}

func restart() string {
	switch runtime.GOOS {
	case "linux":
		return "sudo systemctl restart capagent, or end the agent and start it again"
	case "windows":
		return "as administrator: Restart-Service capagent"
	}
	return "sudo capagent service stop; sudo capagent service start"
}

// watching finds the agent's own word on a folder.
func watching(a *control.Agent, path string) (control.Watch, bool) {
	if a == nil {
		return control.Watch{}, false
	}
	for _, w := range a.Watches {
		if w.Path == path {
			return w, true
		}
	}
	return control.Watch{}, false
}

// capturing finds the agent's own word on a live capture.
func capturing(a *control.Agent, label string) (control.Capture, bool) {
	if a == nil {
		return control.Capture{}, false
	}
	for _, c := range a.Captures {
		if c.Name == label {
			return c, true
		}
	}
	return control.Capture{}, false
}

func quoted(s *string) string {
	if s == nil {
		return ""
	}
	return quote.Text(*s)
}
