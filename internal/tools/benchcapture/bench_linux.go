package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"capagent/internal/faulttest"
	"capagent/internal/traffic"

	"golang.org/x/sys/unix"
)

const (
	noisy     = 10.0 // per cent of one processor that others may use during a run
	overloads = 4    // times the ring

	// Packets per second that will not be reached, to tell whether the disk has room.
	mostVeth, mostInjected = 1e6, 3e6
)

type bencher struct {
	options

	dir string
	out io.Writer
	log io.Writer // a line for each run
	bad []error   // runs that failed; the table names them
}

// scenario is one table.
type scenario struct {
	title string
	ring  int // MiB
	load  traffic.Load
	most  float64 // packets per second that may come, for the disk's sake
	asked []bound // of our own command

	tools   func(ring int) ([]tool, error) // nil: those of a capture to one file
	measure string                         // the tool that the first is compared with; "": tcpdump
}

func (b *bencher) bench(ctx context.Context) error {
	scenarios, err := b.scenarios()
	if err != nil {
		return err
	}
	if err := b.header(b.tools); err != nil {
		return err
	}
	p, err := traffic.NewPair(ctx, traffic.Options{})
	if err != nil {
		return err
	}
	defer func() { _ = p.Close() }() // the next run sweeps
	for _, s := range scenarios {
		if err := b.scenario(ctx, p, s); err != nil {
			return fmt.Errorf("%s: %w", s.title, err)
		}
	}
	return errors.Join(b.bad...)
}

func (b *bencher) scenarios() ([]scenario, error) {
	list, err := sizes(b.sizes)
	if err != nil {
		return nil, err
	}
	var all []scenario
	for _, size := range list {
		what := fmt.Sprintf("%d bytes", size)
		if size == 0 {
			what = "IMIX"
		}
		all = append(all, scenario{
			title: fmt.Sprintf("%s as fast as it goes, %v, ring %d MiB", what, b.seconds, b.ring),
			ring:  b.ring, most: mostVeth, asked: askedAt(size), load: traffic.Load{Size: size, Duration: b.seconds, CPUs: b.senders()},
		})
	}
	if b.sustained > 0 {
		all = append(all, scenario{
			title: fmt.Sprintf("Sustained: 1500 bytes as fast as it goes, %v, ring %d MiB", b.sustained, b.ring),
			ring:  b.ring, most: mostVeth, asked: []bound{lostAtMost(0), residentAtMost(128)}, load: traffic.Load{Size: 1500, Duration: b.sustained, CPUs: b.senders()},
		})
	}
	if b.overload > 0 {
		all = append(all, scenario{
			title: fmt.Sprintf("Overload: 1500 bytes injected past veth, %v, ring %d MiB", b.overload, overloads*b.ring),
			ring:  overloads * b.ring, most: mostInjected, asked: []bound{lostAtMost(0.2)},
			load: traffic.Load{Size: 1500, Duration: b.overload, Rate: b.overloadRate, XDP: true, CPUs: b.senders()},
		})
	}
	return all, nil
}

func (b *bencher) header(candidates func(ring int) ([]tool, error)) error {
	tools, err := candidates(b.ring)
	if err != nil {
		return err
	}
	bound := func(cpu int) string {
		if cpu < 0 {
			return "any CPU"
		}
		return fmt.Sprintf("CPU %d", cpu)
	}
	fmt.Fprintf(b.out, "%s\n\n", machine())
	fmt.Fprintf(b.out, `Medians (and ranges) of %d runs, the tools in turn. The generator is bound to %s,
the tools to %s. Lost is what of the packets that reached the interface is in no
file. CPU is that of all threads (schedstat) from just before the traffic to %v
after it, for each packet captured; set-up and end are left out. So is what no
process is billed for: the kernel's copy into the ring (some 450 ns), and its
threads that write the page cache out, which spares those who write that way. RSS
is VmHWM, the ring included. Doubled and out of order are packets in the file, by
the numbers in them. Files are on %s. %s
`, b.runs, bound(b.sender), bound(b.capturer), b.settle, fileSystem(b.dir), versions(tools))
	fmt.Fprintln(b.out)
	return nil
}

func (b *bencher) scenario(ctx context.Context, p *traffic.Pair, s scenario) error {
	if s.tools == nil {
		s.tools, s.measure = b.tools, "tcpdump"
	}
	tools, err := s.tools(s.ring)
	if err != nil {
		return err
	}
	if err := room(b.dir, s.most*s.load.Duration.Seconds()*float64(max(s.load.Size, 400)+16)); err != nil {
		return err
	}
	rows := make([]row, len(tools))
	for range b.runs {
		for i, t := range tools {
			rows[i].tool = t
			if t.missing() || (rows[i].failed != nil && len(rows[i].samples) == 0) {
				continue
			}
			r, err := b.quietest(ctx, p, t, s)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				b.bad = append(b.bad, fmt.Errorf("%s: %w", t.name, err))
				rows[i].failed = err
				continue
			}
			rows[i].samples = append(rows[i].samples, r)
			fmt.Fprintf(b.log, "%s: %s: %d of %d captured, %.0f ns, noise %.0f %%\n", s.title, t.name, r.files.Distinct, r.offered, r.perPacket(), r.noise)
		}
	}
	if !tools[0].ours {
		s.asked = nil
	}
	return table(b.out, s.title, s.measure, rows, s.asked)
}

// quietest runs a tool until the machine was quiet meanwhile, a few times at most.
func (b *bencher) quietest(ctx context.Context, p *traffic.Pair, t tool, s scenario) (r sample, err error) {
	for range b.attempts {
		if err := waitQuiet(ctx, b.quiet); err != nil {
			return r, err
		}
		if r, err = b.once(ctx, p, t, s); err != nil || r.noise < noisy {
			return r, err
		}
	}
	return r, nil
}

func (b *bencher) once(ctx context.Context, p *traffic.Pair, t tool, s scenario) (r sample, err error) {
	dir, err := b.runFolder(t)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	run, err := b.start(ctx, p, t, dir)
	if err != nil {
		return r, err
	}
	defer run.Kill()
	if r, err = b.measure(ctx, p, run, t, s.load); err != nil {
		return r, err
	}
	if err := stop(run, t.hangs); err != nil {
		return r, err
	}
	if r.files, err = t.checkFiles(dir); err != nil {
		return r, err
	}
	if s.load.XDP { // above the driver, which counts nothing
		r.offered = r.sent.Packets
	}
	return r, nil
}

// runFolder makes an empty folder for what a tool writes.
func (b *bencher) runFolder(t tool) (string, error) {
	dir := filepath.Join(b.dir, "run")
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	for _, d := range append(t.dirs, "") {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o777); err != nil {
			return "", err
		}
	}
	if t.prepare != nil {
		return dir, t.prepare(place{nic: traffic.RX.Interface(), dir: dir})
	}
	return dir, nil
}

// start starts a tool on the receiving side and waits until it captures.
func (b *bencher) start(ctx context.Context, p *traffic.Pair, t tool, dir string) (*faulttest.Process, error) {
	args := t.args(place{nic: traffic.RX.Interface(), dir: dir})
	cmd := p.Command(ctx, traffic.RX, args[0], args[1:]...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), t.env...)
	run, err := start(cmd, b.capturer)
	if err != nil {
		return nil, err
	}
	if err := waitReady(ctx, run); err != nil {
		run.Kill()
		return nil, err
	}
	return run, nil
}

// measure sends the load and reads the meters around it.
func (b *bencher) measure(ctx context.Context, p *traffic.Pair, run *faulttest.Process, t tool, l traffic.Load) (r sample, err error) {
	counted, err := p.Counters(traffic.RX)
	if err != nil {
		return r, err
	}
	cpu, each, user, machine, own := cpuTime(run.PID()), threadsOf(run.PID()), userTime(run.PID()), machineTime(), ownTime()
	if r.sent, err = p.Send(ctx, l); err != nil {
		return r, err
	}
	after := machineTime()
	others := after.user - machine.user - (userTime(run.PID()) - user) - (ownTime() - own) + after.steal - machine.steal
	r.noise = 100 * max(0, others.Seconds()) / r.sent.Elapsed.Seconds()
	select {
	case <-ctx.Done():
		return r, ctx.Err()
	case <-run.Ended():
		return r, fmt.Errorf("ended while it captured: %s", said(run))
	case <-time.After(b.settle):
	}
	if t.background > 0 {
		if err := waitCalm(ctx, run, t.background); err != nil {
			return r, err
		}
	}
	r.cpu, r.cost, r.rss = cpuTime(run.PID())-cpu, threadsOf(run.PID()).since(each), status(run.PID(), "VmHWM")
	if t.background > 0 {
		r.cpu = r.cost.urgent()
	}
	arrived, err := p.Counters(traffic.RX)
	r.offered = arrived.RxPackets - counted.RxPackets
	return r, err
}

// ownTime is this process's user time.
func ownTime() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u) // can't fail
	return time.Duration(u.Utime.Nano())
}
