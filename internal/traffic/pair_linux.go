package traffic

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const (
	namespaces    = "/run/netns" // where iproute2 keeps them
	defaultPrefix = "cbn_"
	defaultMTU    = 9000
)

// Pair is two network namespaces joined by a veth pair.
type Pair struct {
	options Options
	names   [2]string
	files   [2]*os.File
}

// pairs counts those of this process, so that their names differ.
var pairs atomic.Int64

// NewPair makes one. It first removes what dead processes left behind.
func NewPair(ctx context.Context, o Options) (*Pair, error) {
	if o.Prefix == "" {
		o.Prefix = defaultPrefix
	}
	if o.MTU == 0 {
		o.MTU = defaultMTU
	}
	if err := Sweep(ctx, o.Prefix); err != nil {
		return nil, err
	}
	born, err := started(os.Getpid())
	if err != nil {
		return nil, err
	}
	p := &Pair{options: o}
	base := fmt.Sprintf("%s%d_%s_%d", o.Prefix, os.Getpid(), born, pairs.Add(1))
	for _, side := range []Side{TX, RX} {
		p.names[side] = base + "_" + side.String()
		if err := p.makeNamespace(ctx, side); err != nil {
			return nil, errors.Join(err, p.Close())
		}
	}
	if err := p.Create(ctx); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

func (p *Pair) makeNamespace(ctx context.Context, side Side) error {
	if err := ip(ctx, "netns", "add", p.names[side]); err != nil {
		return err
	}
	f, err := os.Open(filepath.Join(namespaces, p.names[side]))
	if err != nil {
		return err
	}
	p.files[side] = f
	return p.Do(side, func() error {
		for _, a := range p.options.Addresses {
			if a.Addr().Is6() {
				return nil
			}
		}
		for _, which := range []string{"all", "default"} {
			err := os.WriteFile("/proc/sys/net/ipv6/conf/"+which+"/disable_ipv6", []byte("1"), 0)
			if err != nil && !errors.Is(err, os.ErrNotExist) { // a kernel without IPv6
				return err
			}
		}
		return nil
	})
}

// Create makes the interfaces, as NewPair did, after Remove.
func (p *Pair) Create(ctx context.Context) error {
	if err := ip(ctx, "link", "add", TX.Interface(), "netns", p.names[TX], "type", "veth",
		"peer", "name", RX.Interface(), "netns", p.names[RX]); err != nil {
		return err
	}
	for _, side := range []Side{TX, RX} {
		if err := p.Do(side, func() error { return setOffloads(side.Interface(), p.options.Offloads) }); err != nil {
			return err
		}
		arp, address := "off", p.options.Addresses[side]
		if address.IsValid() {
			arp = "on"
			args := []string{"-n", p.names[side], "address", "add", address.String(), "dev", side.Interface()}
			if address.Addr().Is6() {
				args = append(args, "nodad")
			}
			if err := ip(ctx, args...); err != nil {
				return err
			}
		}
		if err := ip(ctx, "-n", p.names[side], "link", "set", "lo", "up"); err != nil {
			return err
		}
		if err := ip(ctx, "-n", p.names[side], "link", "set", side.Interface(), "mtu", strconv.Itoa(p.options.MTU), "arp", arp, "up"); err != nil {
			return err
		}
	}
	return nil
}

// Remove takes both interfaces away; the namespaces stay.
func (p *Pair) Remove(ctx context.Context) error {
	return ip(ctx, "-n", p.names[RX], "link", "del", RX.Interface())
}

// Close removes everything. Processes that still run inside keep the namespaces
// alive, without names, until they end.
func (p *Pair) Close() error {
	var errs []error
	for side, f := range p.files {
		if f == nil {
			continue
		}
		errs = append(errs, f.Close())
		p.files[side] = nil
	}
	for side, name := range p.names {
		if _, err := os.Lstat(filepath.Join(namespaces, name)); name == "" || err != nil {
			continue
		}
		// A veth interface outlives its namespace's name for as long as sockets
		// hold the namespace; so it goes first.
		_ = exec.Command("ip", "-n", name, "link", "del", Side(side).Interface()).Run() //nolint:noctx // it may be gone
		errs = append(errs, ip(context.Background(), "netns", "del", name))
	}
	return errors.Join(errs...)
}

// Namespace is the side's namespace, as `ip netns` calls it.
func (p *Pair) Namespace(side Side) string { return p.names[side] }

// Command is exec.CommandContext for a command that runs inside.
func (p *Pair) Command(ctx context.Context, side Side, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", p.names[side], name}, args...)...)
}

// Do runs f inside, on a thread of its own that ends with it, and waits for it.
// Sockets that f opens belong to the namespace for good. Goroutines that f starts
// run outside; so do /proc/net and /sys (use /proc/thread-self/net).
func (p *Pair) Do(side Side, f func() error) error {
	if p.files[side] == nil {
		return fmt.Errorf("enter namespace %s: %w", p.names[side], os.ErrClosed)
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread is not for others any more
		if err := unix.Setns(int(p.files[side].Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter namespace %s: %w", p.names[side], err)
			return
		}
		done <- f()
	}()
	return <-done
}

// Send sends a load from TX, or injects it into RX where it is XDP.
func (p *Pair) Send(ctx context.Context, l Load) (sent Sent, err error) {
	side := TX
	if l.XDP {
		side = RX
	}
	err = p.Do(side, func() error {
		sent, err = Send(ctx, side.Interface(), l)
		return err
	})
	return sent, err
}

// Counters of a side's interface.
func (p *Pair) Counters(side Side) (c Counters, err error) {
	var text []byte
	if err := p.Do(side, func() error {
		text, err = os.ReadFile("/proc/thread-self/net/dev")
		return err
	}); err != nil {
		return c, err
	}
	for line := range strings.Lines(string(text)) {
		name, rest, _ := strings.Cut(line, ":")
		fields := strings.Fields(rest)
		if strings.TrimSpace(name) != side.Interface() || len(fields) < 12 {
			continue
		}
		for at, into := range map[int]*uint64{0: &c.RxBytes, 1: &c.RxPackets, 3: &c.RxDropped, 8: &c.TxBytes, 9: &c.TxPackets, 11: &c.TxDropped} {
			if *into, err = strconv.ParseUint(fields[at], 10, 64); err != nil {
				return c, err
			}
		}
		return c, nil
	}
	return c, fmt.Errorf("counters of %s: %w", side.Interface(), os.ErrNotExist)
}

// Sweep removes the pairs with this prefix whose processes are gone, with all
// that still runs in them.
func Sweep(ctx context.Context, prefix string) error {
	entries, err := os.ReadDir(namespaces)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		rest, ours := strings.CutPrefix(e.Name(), prefix)
		part := strings.Split(rest, "_")
		if !ours || len(part) != 4 || (part[3] != TX.String() && part[3] != RX.String()) {
			continue
		}
		pid, err := strconv.Atoi(part[0])
		if err != nil {
			continue
		}
		if born, err := started(pid); err == nil && born == part[1] {
			continue
		}
		inside, _ := exec.CommandContext(ctx, "ip", "netns", "pids", e.Name()).Output() // somebody else may sweep, too
		for _, field := range strings.Fields(string(inside)) {
			if pid, err := strconv.Atoi(field); err == nil {
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		}
		if err := ip(ctx, "netns", "del", e.Name()); err != nil {
			if _, gone := os.Lstat(filepath.Join(namespaces, e.Name())); gone == nil {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// started is when a process began, in clock ticks since the system did. With the
// process id it names a process for good.
func started(pid int) (string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	_, rest, _ := strings.Cut(string(text[strings.LastIndexByte(string(text), ')')+1:]), " ")
	fields := strings.Fields(rest)
	if len(fields) < 20 {
		return "", fmt.Errorf("process %d: no start time", pid)
	}
	return fields[19], nil
}

func ip(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, "ip", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
