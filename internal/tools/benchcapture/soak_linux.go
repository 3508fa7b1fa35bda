package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"capagent/internal/faulttest"
	"capagent/internal/traffic"
)

const (
	probeFor   = 2 * time.Second // how fast the generator is
	probeFirst = 1 << 56         // numbers of the probe's packets
	cycleSize  = 512
	lookEvery  = 10 * time.Second
)

func (b *bencher) soak(ctx context.Context) error {
	fmt.Fprintf(b.out, "%s\n\n", machine())
	p, err := traffic.NewPair(ctx, traffic.Options{})
	if err != nil {
		return err
	}
	defer func() { _ = p.Close() }() // the next run sweeps
	tools, err := b.tools(b.ring)
	if err != nil {
		return err
	}
	if b.replug > 0 {
		if err := b.replugging(ctx, p, tools[0]); err != nil {
			return fmt.Errorf("interface removed and made again: %w", err)
		}
	}
	if b.soakFor > 0 {
		if err := b.long(ctx, p, tools[0]); err != nil {
			return fmt.Errorf("long load: %w", err)
		}
	}
	return nil
}

// followed is a tool that runs while its file is read.
type followed struct {
	*faulttest.Process
	done chan error // of the follower
}

func (b *bencher) follow(ctx context.Context, p *traffic.Pair, t tool, packet func(int64, []byte)) (*followed, error) {
	dir, err := b.runFolder(t)
	if err != nil {
		return nil, err
	}
	run, err := b.start(ctx, p, t, dir)
	if err != nil {
		return nil, err
	}
	f := &followed{Process: run, done: make(chan error, 1)}
	reading := &follower{dir: dir, cpu: b.sender, ended: run.Ended(), packet: packet}
	go func() { f.done <- reading.run(ctx) }()
	return f, nil
}

// end stops the tool and waits for the reader.
func (f *followed) end() error {
	err := stop(f.Process, false)
	return errors.Join(err, <-f.done)
}

// abandon is for when something else went wrong.
func (f *followed) abandon() {
	f.Kill()
	<-f.done //nolint:errcheck // another error is told
}

// replugging removes the interface under load and makes it again, over and over.
func (b *bencher) replugging(ctx context.Context, p *traffic.Pair, t tool) error {
	seen := make([]traffic.Checker, b.replug+1)
	run, err := b.follow(ctx, p, t, func(at int64, data []byte) {
		if n, ok := traffic.Number(data); ok && n>>32 < uint64(len(seen)) {
			seen[n>>32].Packet(at, data)
		}
	})
	if err != nil {
		return err
	}
	before, ok := vitals(run.Process)
	if !ok {
		run.abandon()
		return fmt.Errorf("ended: %s", said(run.Process))
	}
	sent := make([]uint64, len(seen))
	for i := range seen {
		if sent[i], err = b.cycleOnce(ctx, p, i); err != nil {
			run.abandon()
			return fmt.Errorf("cycle %d: %w", i, err)
		}
		select {
		case <-run.Ended():
			return errors.Join(fmt.Errorf("ended in cycle %d: %s", i, said(run.Process)), <-run.done)
		default:
		}
	}
	after, ok := vitals(run.Process)
	if !ok {
		run.abandon()
		return fmt.Errorf("ended: %s", said(run.Process))
	}
	if err := run.end(); err != nil {
		return err
	}
	return b.cycleTable(seen, sent, before, after)
}

// cycleOnce sends for a while, takes the interface away in the middle of it, and
// makes it again unless it is the last time. It returns how much was sent.
func (b *bencher) cycleOnce(ctx context.Context, p *traffic.Pair, i int) (uint64, error) {
	l := traffic.Load{Size: cycleSize, Rate: b.cycleRate, Duration: time.Minute, First: uint64(i) << 32}
	if i == b.replug {
		l.Duration = b.cycle
		sent, err := p.Send(ctx, l)
		return sent.Packets, err
	}
	type result struct {
		sent traffic.Sent
		err  error
	}
	done := make(chan result, 1)
	go func() {
		sent, err := p.Send(ctx, l)
		done <- result{sent, err}
	}()
	select {
	case r := <-done:
		return 0, fmt.Errorf("sender ended early: %w", r.err)
	case <-time.After(b.cycle):
	}
	if err := p.Remove(ctx); err != nil {
		return 0, err
	}
	r := <-done // with an error: the interface is gone
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	return r.sent.Packets, p.Create(ctx)
}

func (b *bencher) cycleTable(seen []traffic.Checker, sent []uint64, before, after faulttest.Vitals) error {
	var blind, doubled, disordered, inside uint64
	var late, lost []float64
	for i := range seen {
		r := seen[i].Result()
		doubled, disordered, inside = doubled+r.Doubled, disordered+r.Disordered, inside+r.Lost
		if r.Distinct == 0 {
			blind++
			continue
		}
		if i > 0 { // from the first packet after the interface came back
			late = append(late, float64(r.First-uint64(i)<<32)/b.cycleRate*1e3)
		}
		if i < len(seen)-1 { // what was in the ring when it went
			lost = append(lost, float64(sent[i]-(r.Last-uint64(i)<<32+1)))
		}
	}
	fmt.Fprintf(b.out, "### Interface removed and made again %d times, %.0f kpps of %d bytes\n\n| what | figure |\n|---|---|\n", b.replug, b.cycleRate/1e3, cycleSize)
	fmt.Fprintf(b.out, "| periods with packets in the file | %d of %d |\n", len(seen)-int(blind), len(seen))
	if len(late) > 0 {
		fmt.Fprintf(b.out, "| captured again after, ms: median, most | %s |\n", middleAndMost(late))
		fmt.Fprintf(b.out, "| last packets missing at a removal: median, most | %s |\n", middleAndMost(lost))
	}
	fmt.Fprintf(b.out, "| packets lost, doubled, out of order between | %d, %d, %d |\n", inside, doubled, disordered)
	_, err := fmt.Fprintf(b.out, "| descriptors, threads, goroutines, MB of its own before | %s |\n| the same after | %s |\n\n", inShort(before), inShort(after))
	return err
}

func inShort(v faulttest.Vitals) string {
	return fmt.Sprintf("%d, %d, %d, %.1f", v.Files, v.Threads, v.Goroutines, float64(v.RSS)/1e6)
}

func middleAndMost(v []float64) string {
	slices.Sort(v)
	return fmt.Sprintf("%.0f, %.0f", v[len(v)/2], v[len(v)-1])
}

// vitals looks at a tool, if it still runs. Only of a Go program that was not
// stripped the goroutines are known; they are 0 otherwise.
func vitals(run *faulttest.Process) (faulttest.Vitals, bool) {
	v, _ := run.Vitals() // what is known stands in it
	return v, v.Threads > 0 && v.Files > 0
}

// look is the tool at one moment.
type look struct {
	at     time.Duration
	rss    int64 // the ring included
	vitals faulttest.Vitals
}

// long holds half of what the generator reaches.
func (b *bencher) long(ctx context.Context, p *traffic.Pair, t tool) error {
	var check traffic.Checker
	run, err := b.follow(ctx, p, t, func(at int64, data []byte) {
		if n, _ := traffic.Number(data); n < probeFirst {
			check.Packet(at, data)
		}
	})
	if err != nil {
		return err
	}
	l := traffic.Load{Size: b.size, Rate: b.rate, Duration: b.soakFor}
	if b.sender >= 0 {
		l.CPUs = []int{b.sender}
	}
	if l.Rate == 0 {
		probe := l
		probe.Duration, probe.First = min(probeFor, b.soakFor), probeFirst
		sent, err := p.Send(ctx, probe)
		if err != nil {
			run.abandon()
			return err
		}
		l.Rate = sent.Rate() / 2
	}
	looks, sent, err := b.watch(ctx, p, run, l)
	if err != nil {
		run.abandon()
		return err
	}
	if err := run.end(); err != nil {
		return err
	}
	return b.longTable(l, looks, sent, check.Result())
}

// watch sends the load and looks at the tool meanwhile.
func (b *bencher) watch(ctx context.Context, p *traffic.Pair, run *followed, l traffic.Load) (looks []look, sent traffic.Sent, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		var err error
		sent, err = p.Send(ctx, l)
		done <- err
	}()
	began := time.Now()
	tick := time.NewTicker(max(min(lookEvery, l.Duration/20), 50*time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			return looks, sent, err
		case <-run.Ended():
			cancel()
			return looks, sent, errors.Join(fmt.Errorf("ended after %v: %s", time.Since(began), said(run.Process)), <-done)
		case err := <-run.done:
			run.done <- err // for end
			cancel()
			return looks, sent, errors.Join(fmt.Errorf("file: %w", cmp.Or(err, errors.New("ended early"))), <-done)
		case <-tick.C:
		}
		v, ok := vitals(run.Process)
		if !ok {
			continue // it ended: said above
		}
		looks = append(looks, look{at: time.Since(began), rss: status(run.PID(), "VmRSS"), vitals: v})
		fmt.Fprintf(b.log, "%v: RSS %.1f MB, %d descriptors, %d threads, %d goroutines, %v of CPU\n",
			time.Since(began).Round(time.Second), float64(looks[len(looks)-1].rss)/1e6, v.Files, v.Threads, v.Goroutines, v.CPU)
	}
}

func (b *bencher) longTable(l traffic.Load, looks []look, sent traffic.Sent, r traffic.Result) error {
	if len(looks) == 0 {
		return errors.New("too short to see anything")
	}
	settled := looks[len(looks)/10:] // the start is not the state that lasts
	first, last := settled[0], looks[len(looks)-1]
	most := func(value func(look) int64) int64 {
		return value(slices.MaxFunc(settled, func(a, b look) int { return cmp.Compare(value(a), value(b)) }))
	}
	fmt.Fprintf(b.out, "### %v at %.0f kpps of %d bytes\n\n| what | figure |\n|---|---|\n", b.soakFor, l.Rate/1e3, b.size)
	fmt.Fprintf(b.out, "| sent, captured | %d, %d |\n", sent.Packets, r.Distinct)
	fmt.Fprintf(b.out, "| lost, doubled, out of order | %d, %d, %d |\n", r.Missing(sent.Packets), r.Doubled, r.Disordered)
	fmt.Fprintf(b.out, "| ns of CPU for a packet | %.0f |\n", float64((last.vitals.CPU-first.vitals.CPU).Nanoseconds())/(sent.Rate()*(last.at-first.at).Seconds()))
	fmt.Fprintf(b.out, "| RSS MB, the ring included: first, last, most | %.1f, %.1f, %.1f |\n", float64(first.rss)/1e6, float64(last.rss)/1e6,
		float64(most(func(l look) int64 { return l.rss }))/1e6)
	fmt.Fprintf(b.out, "| RSS slope, MB per hour | %.2f |\n", slope(settled))
	for _, kept := range []struct {
		name  string
		value func(look) int64
	}{
		{"descriptors", func(l look) int64 { return int64(l.vitals.Files) }},
		{"threads", func(l look) int64 { return int64(l.vitals.Threads) }},
		{"goroutines", func(l look) int64 { return int64(l.vitals.Goroutines) }},
	} {
		if most(kept.value) == 0 {
			fmt.Fprintf(b.out, "| %s | not known: the program is stripped |\n", kept.name)
			continue
		}
		fmt.Fprintf(b.out, "| %s: first, last, most | %d, %d, %d |\n", kept.name, kept.value(first), kept.value(last), most(kept.value))
	}
	_, err := fmt.Fprintln(b.out)
	return err
}

// slope fits a line through the resident memory: MB per hour.
func slope(looks []look) float64 {
	var n, x, y, xx, xy float64
	for _, l := range looks {
		h, mb := l.at.Hours(), float64(l.rss)/1e6
		n, x, y, xx, xy = n+1, x+h, y+mb, xx+h*h, xy+h*mb
	}
	if d := n*xx - x*x; d > 0 {
		return (n*xy - x*y) / d
	}
	return 0
}
