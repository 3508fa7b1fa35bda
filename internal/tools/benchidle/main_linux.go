// Command benchidle measures what an agent costs that has nothing to do: one
// interface without packets, one watched folder without files, a server that
// answers, everything else as it is by default. It prints the table for docs/benchmarks.md, and fails when an agent
// takes more than it is allowed.
//
// The interface is in a network namespace of its own; nothing leaves the machine.
// It needs root.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"capagent/internal/faulttest"
	"capagent/internal/traffic"
)

type options struct {
	capagent     string
	length       time.Duration
	settle       time.Duration
	every        time.Duration
	dir          string
	maxCPU       float64
	maxRSS       int64 // MB
	startsWithin time.Duration
}

func main() {
	o := options{startsWithin: 20 * time.Second}
	flag.StringVar(&o.capagent, "capagent", "./capagent", "the program to measure")
	flag.DurationVar(&o.length, "for", 10*time.Minute, "how long to look at them")
	flag.DurationVar(&o.settle, "settle", 30*time.Second, "after their start, until they are looked at")
	flag.DurationVar(&o.every, "every", 5*time.Second, "between two looks at their memory")
	flag.StringVar(&o.dir, "dir", "", "folder for what they keep (default $TMPDIR or /tmp)")
	flag.Float64Var(&o.maxCPU, "max-cpu", 0.3, "% of a core that an agent may take")
	flag.Int64Var(&o.maxRSS, "max-rss", 40, "MB that an agent may have resident")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	err := run(ctx, o, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "benchidle:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options, out io.Writer) (err error) {
	if os.Getuid() != 0 {
		return errors.New("network namespaces need root")
	}
	if o.length <= 0 || o.every <= 0 || flag.NArg() > 0 {
		return errors.New("-for and -every must be positive, and nothing may follow the flags")
	}
	b, err := newBench(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	for _, how := range []way{service, root, plain} {
		if err := b.start(ctx, how); err != nil {
			return fmt.Errorf("%s: %w", how.name, err)
		}
	}
	if err := b.watch(ctx); err != nil {
		return err
	}
	return b.table(out)
}

// way is how an agent is started.
type way struct {
	name    string
	command []string // before the program's name
	folder  string
	capture bool
}

const nobody = 65534

var (
	asNobody = []string{"setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"}
	service  = way{
		name: "as a service: CAP_NET_RAW, which a child keeps", folder: "service", capture: true,
		command: append(asNobody[:len(asNobody):len(asNobody)], "--inh-caps", "+net_raw", "--ambient-caps", "+net_raw"),
	}
	root  = way{name: "as root", folder: "root", capture: true}
	plain = way{name: "as a user without rights: the folder alone", folder: "plain", command: asNobody}
)

type bench struct {
	options
	pair   *traffic.Pair
	notify *listener
	box    *faulttest.Process
	server faulttest.Sandbox
	agents []*agent
}

func newBench(ctx context.Context, o options) (b *bench, err error) {
	b = &bench{options: o}
	if b.dir, err = os.MkdirTemp(o.dir, "capagent-benchidle-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	if err := os.Chmod(b.dir, 0o755); err != nil {
		return nil, err
	}
	if err := b.copyProgram(); err != nil {
		return nil, err
	}
	if b.notify, err = listen(filepath.Join(b.dir, "notify")); err != nil {
		return nil, err
	}
	if b.pair, err = traffic.NewPair(ctx, traffic.Options{}); err != nil {
		return nil, err
	}
	return b, b.startServer(ctx)
}

// copyProgram puts it where every user can run it.
func (b *bench) copyProgram() error {
	text, err := os.ReadFile(b.capagent)
	if err != nil {
		return err
	}
	b.capagent = filepath.Join(b.dir, "capagent")
	return os.WriteFile(b.capagent, text, 0o755)
}

func (b *bench) close() (err error) {
	for _, a := range b.agents {
		a.Kill()
	}
	if b.box != nil {
		b.box.Kill()
	}
	if b.notify != nil {
		b.notify.close()
	}
	if b.pair != nil {
		err = b.pair.Close()
	}
	return errors.Join(err, os.RemoveAll(b.dir))
}
