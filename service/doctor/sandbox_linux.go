package doctor

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"capagent/internal/quote"
	"capagent/service/control"
)

// sandbox says what keeps the agent from doing what it need not do.
func (x *examination) sandbox() []job {
	c := about("sandbox", "sandboxing")
	return []job{{c.ID, c.Title, func(ctx context.Context) []Check { return []Check{x.confined(ctx, c)} }}}
}

func (x *examination) confined(ctx context.Context, c Check) Check {
	agent := x.running(ctx)
	if agent == nil {
		return c.skip("no agent is running")
	}
	text, err := os.ReadFile(filepath.Join(x.proc, strconv.Itoa(agent.PID), "status"))
	if err != nil {
		return c.skip("what holds the agent can't be seen: %v", err)
	}
	return judge(c, parseStatus(text), agent.Confined)
}

// held is what /proc/PID/status says of a process's bounds.
type held struct {
	uid, seccomp       string
	noNewPrivs         bool
	effective, bounded uint64
}

func parseStatus(text []byte) (h held) {
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimSpace(value)
		switch key {
		case "Uid": // real, effective, saved, of the file system
			if ids := strings.Fields(value); len(ids) > 1 {
				h.uid = ids[1]
			}
		case "NoNewPrivs":
			h.noNewPrivs = value == "1"
		case "Seccomp":
			h.seccomp = value
		case "CapEff":
			h.effective, _ = strconv.ParseUint(value, 16, 64)
		case "CapBnd":
			h.bounded, _ = strconv.ParseUint(value, 16, 64)
		}
	}
	return h
}

const (
	install = "run it as the service that the package or `sudo capagent service install` sets up"
	unbind  = "take confine = false out of [agent], and give secrets by files or systemd's credentials instead of commands; then restart the agent"
)

// judge looks at what the kernel says of the agent, and at what the agent says that it
// took from itself, which the kernel tells nobody else.
func judge(c Check, h held, own *control.Confined) Check {
	filter := h.seccomp == "2"
	lines := []string{
		"user: " + userName(h.uid),
		"no new privileges: " + yes(h.noNewPrivs),
		"system calls filtered (seccomp): " + yes(filter),
		"capabilities: " + capabilities(h.effective),
		"capabilities that it could get: " + capabilities(h.bounded),
	}
	bound := true // by itself
	if own != nil {
		bound = own.Landlock > 0 && own.Seccomp
		lines = append(lines, "starts no programs (a filter of its own): "+yes(own.Seccomp), "changes files only where it has to (Landlock): "+changes(own))
		if own.Reason != nil {
			lines = append(lines, "not in force: "+quoted(own.Reason))
		}
	}
	detail := strings.Join(lines, "\n")
	const raw = 1 << unix.CAP_NET_RAW
	switch {
	case h.uid == "0":
		return c.warn(install, "the agent runs as root\n%s", detail)
	case !h.noNewPrivs || !filter:
		return c.warn(fixOf(own), "the agent is not confined\n%s", detail)
	case h.effective&^raw != 0:
		return c.warn(install, "the agent has more capabilities than it needs\n%s", detail)
	case !bound:
		return c.ok("in force, but for what the agent could take from itself\n%s", detail)
	}
	return c.ok("in force\n%s", detail)
}

// fixOf chooses by whether the agent would confine itself, were it let.
func fixOf(own *control.Confined) string {
	if own != nil && !own.Seccomp && own.Landlock == 0 {
		return install + "\n" + unbind
	}
	return install
}

func changes(own *control.Confined) string {
	if own.Landlock == 0 {
		return "no"
	}
	dirs := make([]string, len(own.Writable))
	for i, dir := range own.Writable {
		dirs[i] = quote.Path(dir)
	}
	return fmt.Sprintf("yes, version %d: below %s", own.Landlock, strings.Join(dirs, ", "))
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// capabilities names those that matter here; the others are counted.
func capabilities(set uint64) string {
	if set == 0 {
		return "none"
	}
	names := map[int]string{
		unix.CAP_NET_RAW: "CAP_NET_RAW", unix.CAP_NET_ADMIN: "CAP_NET_ADMIN", unix.CAP_SYS_ADMIN: "CAP_SYS_ADMIN",
		unix.CAP_SYS_NICE: "CAP_SYS_NICE", unix.CAP_DAC_OVERRIDE: "CAP_DAC_OVERRIDE", unix.CAP_DAC_READ_SEARCH: "CAP_DAC_READ_SEARCH",
	}
	var all []string
	others := 0
	for bit := range 64 {
		if set&(1<<bit) == 0 {
			continue
		}
		if name, ok := names[bit]; ok {
			all = append(all, name)
		} else {
			others++
		}
	}
	if others > 0 {
		all = append(all, fmt.Sprintf("%d others", others))
	}
	return strings.Join(all, ", ")
}
