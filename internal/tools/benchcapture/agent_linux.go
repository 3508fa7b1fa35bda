package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"capagent/internal/faulttest"
	"capagent/internal/traffic"
)

const (
	rotateEvery = 100_000 // packets in a file
	// captureMost is what capturing may cost the agent, beside inspection and
	// uploads, of what it costs `capagent capture`.
	captureMost = 1.2
	backlog     = 2 * time.Minute // to hash and inspect what was captured
)

// measureAgent measures `capagent run`: from file to file beside dumpcap, and at half of
// what the generator reaches, with all else that it does, beside `capagent capture`.
func (b *bencher) measureAgent(ctx context.Context) error {
	list, err := sizes(b.sizes)
	if err != nil {
		return err
	}
	if err := b.header(b.rotating); err != nil {
		return err
	}
	p, err := traffic.NewPair(ctx, traffic.Options{})
	if err != nil {
		return err
	}
	defer func() { _ = p.Close() }() // the next run sweeps
	speed := "as fast as it goes"
	if b.rotateRate > 0 {
		speed = fmt.Sprintf("at %.0f kpps", b.rotateRate/1e3)
	}
	for _, size := range list {
		s := scenario{
			title: fmt.Sprintf("Files of %d packets: %d bytes %s, %v, ring %d MiB", rotateEvery, size, speed, b.seconds, b.ring),
			ring:  b.ring, most: mostVeth, tools: b.rotating, measure: "dumpcap", asked: []bound{lostAtMost(0), cpuAtMost(1, "dumpcap")},
			load: traffic.Load{Size: size, Rate: b.rotateRate, Duration: b.seconds, CPUs: b.senders()},
		}
		if err := b.scenario(ctx, p, s); err != nil {
			return fmt.Errorf("%s: %w", s.title, err)
		}
	}
	if b.agentFor > 0 {
		if err := b.half(ctx, p); err != nil {
			return fmt.Errorf("half of the rate: %w", err)
		}
	}
	return errors.Join(b.bad...)
}

func (b *bencher) senders() []int {
	if b.sender < 0 {
		return nil
	}
	return []int{b.sender}
}

// rotating are the tools that end a file after so many packets.
func (b *bencher) rotating(ring int) ([]tool, error) {
	ours, err := b.holding(ring)
	ours.background = backlog
	return []tool{ours, {name: "dumpcap", ring: fmt.Sprintf("-B %d -b packets:%d", ring, rotateEvery), args: func(p place) []string {
		return []string{
			"dumpcap", "-q", "-i", p.nic, "-B", fmt.Sprint(ring), "-b", fmt.Sprintf("packets:%d", rotateEvery),
			"-w", filepath.Join(p.dir, "out.pcapng"),
		}
	}}}, err
}

// holding is an agent that uploads nothing.
func (b *bencher) holding(ring int) (tool, error) {
	return b.agentTool(ring, "http://127.0.0.1:9", "", "[policy]\nupload = \"triggered\"\n")
}

// agentTool is an agent that uploads to url.
func (b *bencher) agentTool(ring int, url, tokenFile, tables string) (tool, error) {
	capagent, err := filepath.Abs(b.capagent)
	if err != nil {
		return tool{}, err
	}
	agent := func(p place) *faulttest.Agent {
		return &faulttest.Agent{
			Program: capagent, Dir: p.dir, StateDir: filepath.Join(p.dir, "state"),
			Tail: fmt.Sprintf("%s[[capture]]\nname = \"lan\"\ninterface = %q\nbuffer = \"%dMiB\"\n[rotate]\npackets = %d\n", tables, p.nic, ring, rotateEvery),
		}
	}
	return tool{
		name: "capagent run", ours: true, ring: fmt.Sprintf("%d MiB", ring), check: checkSpool,
		args: func(p place) []string {
			return []string{capagent, "--config", agent(p).Config(), "run", "--grace", "3s"}
		},
		prepare: func(p place) error {
			token := filepath.Join(p.dir, "token")
			if tokenFile != "" {
				token = tokenFile
			} else if err := os.WriteFile(token, []byte(strings.Repeat("0", 32)), 0o600); err != nil {
				return err
			}
			return agent(p).Configure(url, token)
		},
	}, nil
}

// checkSpool reads the captures among all that an agent leaves.
func checkSpool(c *traffic.Checker, path string) error {
	switch {
	case filepath.Base(filepath.Dir(path)) != "spool":
		return nil
	case filepath.Ext(path) != ".pcapng":
		return fmt.Errorf("check %s: it is not complete", path)
	}
	return c.File(path)
}

// half sends half of what the generator reaches, to an agent that inspects and
// uploads, to one that inspects only, and to the capture command, in turn.
func (b *bencher) half(ctx context.Context, p *traffic.Pair) error {
	rate := b.agentRate
	if rate == 0 {
		sent, err := p.Send(ctx, traffic.Load{Size: b.agentSize, Duration: min(probeFor, b.agentFor), CPUs: b.senders()})
		if err != nil {
			return err
		}
		rate = sent.Rate() / 2
	}
	load := traffic.Load{Size: b.agentSize, Rate: rate, Duration: b.agentFor, CPUs: b.senders()}
	if err := room(b.dir, 2*rate*b.agentFor.Seconds()*float64(b.agentSize+32)); err != nil { // the sandbox has it, too
		return err
	}
	single, err := b.tools(b.ring)
	if err != nil {
		return err
	}
	holding, err := b.holding(b.ring)
	if err != nil {
		return err
	}
	holding.name += ", nothing uploaded"
	rows := []row{{}, {tool: holding}, {tool: single[0]}}
	sessions := 0
	for range b.runs {
		if err := b.uploading(ctx, p, load, &rows[0], &sessions); err != nil {
			return err
		}
		for i := range rows[1:] {
			if err := b.add(ctx, p, load, &rows[1+i]); err != nil {
				return err
			}
		}
	}
	return b.halfTable(load, rows, sessions)
}

// add is one run more.
func (b *bencher) add(ctx context.Context, p *traffic.Pair, l traffic.Load, to *row) error {
	if err := waitQuiet(ctx, b.quiet); err != nil {
		return err
	}
	r, err := b.once(ctx, p, to.tool, scenario{load: l})
	if err != nil {
		return fmt.Errorf("%s: %w", to.tool.name, err)
	}
	to.samples = append(to.samples, r)
	fmt.Fprintf(b.log, "%s: %d of %d captured, %d sent, %+v\n", to.tool.name, r.files.Distinct, r.offered, r.sent.Packets, r.cost)
	return nil
}

// uploading is one run of an agent with a sandbox.
func (b *bencher) uploading(ctx context.Context, p *traffic.Pair, l traffic.Load, into *row, sessions *int) (err error) {
	dir := filepath.Join(b.dir, "sandbox")
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	capagent, err := filepath.Abs(b.capagent)
	if err != nil {
		return err
	}
	// It stands for another machine, and takes only what nobody here wants.
	cmd := p.Command(ctx, traffic.RX, "nice", "-n", "19", capagent, "sandbox", "--json", "--dir", dir, "--listen", "127.0.0.1:0")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	box, err := faulttest.Start(cmd)
	if err != nil {
		return err
	}
	defer box.Kill()
	var where faulttest.Sandbox
	if err := json.NewDecoder(out).Decode(&where); err != nil {
		return fmt.Errorf("sandbox: %w: %s", err, said(box))
	}
	if into.tool, err = b.agentTool(b.ring, where.URL, where.TokenFile, ""); err != nil {
		return err
	}
	if err := b.add(ctx, p, l, into); err != nil {
		return err
	}
	found, err := filepath.Glob(filepath.Join(dir, "captures", "*.json"))
	*sessions += len(found)
	return err
}

func (b *bencher) halfTable(l traffic.Load, rows []row, sessions int) error {
	fmt.Fprintf(b.out, "### Half of the rate: %d bytes, %.0f kpps, %v, ring %d MiB, while the agent inspects and uploads\n\n", l.Size, l.Rate/1e3, l.Duration, b.ring)
	fmt.Fprint(b.out, "| tool | offered kpps | captured | lost % | ns of CPU for a packet: reader | writer and others | watchdog | at low priority | RSS MB | doubled | out of order |\n"+
		"|---|---|---|---|---|---|---|---|---|---|---|\n")
	part := func(of func(cost) time.Duration) func(sample) float64 {
		return func(s sample) float64 { return s.each(of(s.cost)) }
	}
	reader := part(func(c cost) time.Duration { return c.reader })
	usual := part(func(c cost) time.Duration { return c.usual })
	for i, r := range rows {
		readers := "with others"
		if i < 2 {
			readers = r.spread(reader).text("%.0f")
		}
		fmt.Fprintf(b.out, "| %s | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s |\n", strings.TrimSpace(r.tool.name+" "+r.tool.ring),
			r.spread(sample.offeredRate).text("%.0f"),
			r.spread(func(s sample) float64 { return float64(s.files.Distinct) }).text("%.0f"),
			r.spread(sample.lost).text("%.3g"), readers, r.spread(usual).text("%.0f"),
			r.spread(part(func(c cost) time.Duration { return c.watchdog })).text("%.0f"),
			r.spread(part(func(c cost) time.Duration { return c.low })).text("%.0f"),
			r.spread(sample.resident).text("%.1f"),
			r.spread(func(s sample) float64 { return float64(s.files.Doubled) }).text("%.0f"),
			r.spread(func(s sample) float64 { return float64(s.files.Disordered) }).text("%.0f"))
	}
	fmt.Fprintf(b.out, `
The agent's reader is its thread of high priority. The writer has none of its own:
beside it are the runtime, and in the first row what goes into sockets; so it is
taken from the second. The watchdog is a thread of Go's runtime, which is awake
while goroutines are in system calls. %d sessions were made in %d runs.

`, sessions, b.runs)
	asked := []bound{lostAtMost(0), {
		"CPU of capturing (the reader while it uploads, the writer while it does not), of the capture command's,", captureMost,
		func(rows []row) (float64, bool) {
			theirs := rows[2].spread(usual).median
			return (rows[0].spread(reader).median + rows[1].spread(usual).median) / theirs, theirs > 0
		},
	}}
	for _, a := range asked {
		fmt.Fprint(b.out, a.answer(rows))
	}
	_, err := fmt.Fprintln(b.out)
	return err
}
