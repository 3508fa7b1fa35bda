// Command benchinspect times `capagent inspect` beside what else takes indicators
// out of a capture, on one processor, with one capture of mixed real traffic.
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "benchinspect:", err)
		stop()
		os.Exit(1) //nolint:gocritic // stop was called
	}
}

// tools in the order of the table; {file} and {dir} are replaced. tshark is asked
// for the same fields, without the digests of bodies.
var tools = []struct{ name, command string }{
	{"capagent inspect", "{capagent} inspect --json {file}"},
	{"tshark", "tshark -n -r {file} -T fields -e frame.number -e ip.src -e ip.dst -e ipv6.src -e ipv6.dst -e dns.qry.name -e dns.resp.name " +
		"-e dns.a -e dns.aaaa -e dns.cname -e http.host -e http.request.full_uri -e http.user_agent -e tls.handshake.extensions_server_name " +
		"-e tls.handshake.ja3 -e tls.handshake.certificate -e smtp.req.parameter -e imf.from -e imf.to -e dhcp.option.hostname -e nbns.name"},
	{"suricata", "suricata -r {file} -l {dir}"},
	{"zeek", "zeek -C -r {file} Log::default_logdir={dir}"},
	{"capinfos -H (digests only)", "capinfos -H {file}"},
}

type sample struct {
	wall, cpu time.Duration
	rss       int64
}

func run(ctx context.Context, args []string, out io.Writer) error {
	f := flag.NewFlagSet("benchinspect", flag.ContinueOnError)
	capagent := f.String("capagent", "./capagent", "the program to measure")
	file := f.String("file", "", "measure with this capture instead of a mixed one")
	gib := f.Float64("gib", 1, "GiB of the mixed capture")
	runs := f.Int("runs", 3, "runs of each tool, in turn")
	cpu := f.Int("cpu", runtime.NumCPU()-1, "the processor")
	hostileMiB := f.Int64("hostile", 256, "MiB of each hostile capture; 0: none")
	if err := f.Parse(args); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "benchinspect")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if *file == "" {
		*file = filepath.Join(dir, "mixed.pcap")
		if f.NArg() == 0 {
			return fmt.Errorf("name folders of captures to mix, or -file")
		}
		packets, err := mix(*file, f.Args(), int64(*gib*(1<<30)))
		if err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "mixed: %d packets\n", packets)
	}
	info, err := os.Stat(*file)
	if err != nil {
		return err
	}
	samples := map[string][]sample{}
	for range *runs {
		for _, t := range tools {
			command := strings.NewReplacer("{capagent}", *capagent, "{file}", *file, "{dir}", dir).Replace(t.command)
			if _, err := exec.LookPath(strings.Fields(command)[0]); err != nil {
				continue
			}
			s, _, err := measure(ctx, *cpu, strings.Fields(command))
			if err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
			samples[t.name] = append(samples[t.name], s)
			fmt.Fprintf(os.Stderr, "%s: %v\n", t.name, s.wall)
		}
	}
	table(out, info.Size(), *runs, samples)
	if *hostileMiB == 0 {
		return nil
	}
	return attack(ctx, out, *capagent, dir, *cpu, *hostileMiB)
}

// measure runs a command on one processor, and returns what it complained of. What
// this program has in memory at most must stay small: Linux counts it as the
// command's, too, until that begins.
func measure(ctx context.Context, cpu int, command []string) (sample, string, error) {
	cmd := exec.CommandContext(ctx, "taskset", append([]string{"-c", fmt.Sprint(cpu)}, command...)...)
	var complaints strings.Builder
	cmd.Stderr = &complaints
	start := time.Now()
	if err := cmd.Run(); err != nil {
		return sample{}, "", fmt.Errorf("%w: %s", err, complaints.String())
	}
	p := cmd.ProcessState
	return sample{time.Since(start), p.UserTime() + p.SystemTime(), resident(p)}, complaints.String(), nil
}

func table(out io.Writer, size int64, runs int, samples map[string][]sample) {
	fmt.Fprintf(out, "%s of mixed traffic, one processor, medians of %d runs in turn\n\n", humanize.IBytes(uint64(size)), runs)
	fmt.Fprint(out, "| tool | seconds | MB/s | of capagent's time | CPU s | RSS MiB |\n|---|---|---|---|---|---|\n")
	ours := median(samples[tools[0].name])
	for _, t := range tools {
		if len(samples[t.name]) == 0 {
			fmt.Fprintf(out, "| %s | not installed | | | | |\n", t.name)
			continue
		}
		m := median(samples[t.name])
		fmt.Fprintf(out, "| %s | %.2f | %.0f | %.1f | %.2f | %d |\n", t.name, m.wall.Seconds(), float64(size)/1e6/m.wall.Seconds(),
			m.wall.Seconds()/ours.wall.Seconds(), m.cpu.Seconds(), m.rss>>20)
	}
}

func median(list []sample) sample {
	s := slices.Clone(list)
	slices.SortFunc(s, func(a, b sample) int { return cmp.Compare(a.wall, b.wall) })
	m := s[len(s)/2]
	for _, one := range s {
		m.rss = max(m.rss, one.rss)
	}
	return m
}
