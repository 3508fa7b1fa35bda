// Command benchcapture measures live capture to a file beside tcpdump, dumpcap,
// netsniff-ng and stenotype, in turn in one run against one generator, and prints
// the tables for docs/benchmarks.md. With -agent it measures `capagent run`
// instead. With -soak it holds the capture command under load for an hour, and
// takes its interface away 200 times.
//
// The traffic runs between two network namespaces; nothing leaves the machine.
// It needs root, two processors and a real disk.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// capagentCommand is what is measured; the words in braces are filled in.
const captureCommand = "{capagent} capture -i {if} --no-upload --write {file} --buffer {ring}MiB"

type options struct {
	capagent         string
	command          string
	tools, sizes     string
	seconds, settle  time.Duration
	runs, ring       int
	sustained        time.Duration
	overload         time.Duration
	overloadRate     float64
	sender, capturer int
	dir              string
	quiet            time.Duration
	attempts         int

	agent      bool
	agentFor   time.Duration
	agentRate  float64
	agentSize  int
	rotateRate float64

	soak      bool
	replug    int
	cycle     time.Duration
	cycleRate float64
	soakFor   time.Duration
	rate      float64
	size      int
}

func parse(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("benchcapture", flag.ContinueOnError)
	f.StringVar(&o.capagent, "capagent", "./capagent", "the program to measure")
	f.StringVar(&o.command, "command", captureCommand, "how it is called; it is stopped by SIGINT; {ring} is in MiB")
	f.StringVar(&o.tools, "tools", "", "of capagent,tcpdump,dumpcap,netsniff-ng,stenotype only these")
	f.StringVar(&o.sizes, "sizes", "64,512,1500", "bytes of a frame, a table each; 0 is IMIX; none: no such tables")
	f.DurationVar(&o.seconds, "for", 4*time.Second, "traffic of a run")
	f.DurationVar(&o.settle, "settle", 1500*time.Millisecond, "after the traffic, until a tool's processor time is read")
	f.IntVar(&o.runs, "runs", 3, "runs of each tool, in turn")
	f.IntVar(&o.ring, "ring", 64, "MiB of kernel buffer; four times that for the overload")
	f.DurationVar(&o.sustained, "sustained", 20*time.Second, "traffic of a sustained run, 1500 bytes; 0: none")
	f.DurationVar(&o.overload, "overload", 2*time.Second, "traffic of an overload run, 1500 bytes, injected; 0: none")
	f.Float64Var(&o.overloadRate, "overload-rate", 0, "packets per second of the overload, in bursts; 0: as fast as it goes, some 1.5 million while somebody captures")
	f.IntVar(&o.sender, "sender-cpu", 0, "processor that sends; -1: any")
	f.IntVar(&o.capturer, "capture-cpu", 1, "processor that captures; -1: any")
	f.StringVar(&o.dir, "dir", "", "folder on a real disk for the files (default $TMPDIR or ./.bench)")
	f.DurationVar(&o.quiet, "quiet", time.Minute, "wait for a quiet machine before each run, at most")
	f.IntVar(&o.attempts, "attempts", 3, "tries of a run on a noisy machine; the last one counts, marked")

	f.BoolVar(&o.agent, "agent", false, "measure capagent run instead: beside dumpcap, both with files of 100,000 packets, and beside capagent capture while it uploads")
	f.DurationVar(&o.agentFor, "agent-for", 20*time.Second, "agent: traffic of a run with uploads; 0: none")
	f.Float64Var(&o.agentRate, "agent-rate", 0, "agent: its packets per second; 0: half of what the generator reaches")
	f.IntVar(&o.agentSize, "agent-size", 1500, "agent: bytes of its frames")
	f.Float64Var(&o.rotateRate, "rotate-rate", 0, "agent: packets per second beside dumpcap; 0: as fast as it goes")

	f.BoolVar(&o.soak, "soak", false, "hold the capture command under load instead")
	f.IntVar(&o.replug, "replug", 200, "soak: times the interface is removed and made again")
	f.DurationVar(&o.cycle, "cycle", time.Second, "soak: traffic between them")
	f.Float64Var(&o.cycleRate, "cycle-rate", 100_000, "soak: its packets per second")
	f.DurationVar(&o.soakFor, "soak-for", time.Hour, "soak: length of the long load; 0: none")
	f.Float64Var(&o.rate, "soak-rate", 0, "soak: its packets per second; 0: half of what the generator reaches")
	f.IntVar(&o.size, "soak-size", 1500, "soak: bytes of its frames")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	if len(strings.Fields(o.command)) == 0 {
		return o, errors.New("-command is empty")
	}
	if o.runs < 1 || o.ring < 1 || o.attempts < 1 || o.seconds <= 0 || o.cycle <= 0 || o.cycleRate <= 0 {
		return o, errors.New("-runs, -ring, -attempts, -for, -cycle and -cycle-rate must be positive")
	}
	return o, nil
}

func main() {
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
		err = run(ctx, o)
		stop()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "benchcapture:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (err error) {
	if os.Getuid() != 0 {
		return errors.New("network namespaces need root")
	}
	unlock, err := lock()
	if err != nil {
		return err
	}
	defer unlock()
	dir, err := folder(o.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b := &bencher{options: o, dir: dir, out: os.Stdout, log: os.Stderr}
	switch {
	case o.agent:
		return b.measureAgent(ctx)
	case o.soak:
		return b.soak(ctx)
	}
	return b.bench(ctx)
}

// lock lets one run at a time measure.
func lock() (unlock func(), err error) {
	const path = "/run/capagent-benchcapture.lock"
	fd, err := unix.Open(path, unix.O_CREAT|unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("lock %s: %w (another run measures)", path, err)
	}
	return func() { _ = unix.Close(fd) }, nil
}

const folderName = "capagent-benchcapture-"

// folder makes one for the captures, on a disk: in memory there is no O_DIRECT
// and no limit on dirty pages, so nothing of what is measured would be true.
func folder(place string) (string, error) {
	if place == "" {
		place = os.Getenv("TMPDIR")
	}
	if place == "" {
		place = ".bench"
		if err := os.MkdirAll(place, 0o755); err != nil {
			return "", err
		}
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(place, &fs); err != nil {
		return "", fmt.Errorf("look at %s: %w", place, err)
	}
	if kind := uint32(fs.Type); kind == unix.TMPFS_MAGIC || kind == unix.RAMFS_MAGIC {
		return "", fmt.Errorf("%s is in memory: O_DIRECT and the kernel's limit on dirty pages, which decide what is lost, can't be measured there; name a folder on a real disk with -dir", place)
	}
	place, err := filepath.Abs(place)
	if err != nil {
		return "", err
	}
	// A run that was killed leaves gigabytes. The lock says that nobody uses them.
	left, err := filepath.Glob(filepath.Join(place, folderName+"*"))
	if err != nil {
		return "", err
	}
	for _, dir := range left {
		if err := os.RemoveAll(dir); err != nil {
			return "", err
		}
	}
	return os.MkdirTemp(place, folderName)
}

// fileSystem names the kind of file system that a folder is on.
func fileSystem(dir string) string {
	out, err := exec.Command("stat", "-f", "-c", "%T", dir).Output() //nolint:noctx // short
	if err != nil {
		return "a disk"
	}
	return strings.TrimSpace(string(out))
}

// room fails early where a run would fill the disk.
func room(dir string, bytes float64) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("look at %s: %w", dir, err)
	}
	if free := float64(fs.Bavail) * float64(fs.Bsize); free < bytes*1.1 {
		return fmt.Errorf("%s has %.0f GB free, a run needs %.0f GB", dir, free/1e9, bytes*1.1/1e9)
	}
	return nil
}

func sizes(list string) ([]int, error) {
	var all []int
	for s := range strings.SplitSeq(list, ",") {
		if s == "" || s == "none" {
			continue
		}
		n, err := strconv.Atoi(s)
		if err != nil {
			return nil, fmt.Errorf("size %q: %w", s, err)
		}
		all = append(all, n)
	}
	return all, nil
}
