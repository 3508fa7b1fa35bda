package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"capagent/capture"
	"capagent/capture/live"
	"capagent/internal/config"
	"capagent/internal/pcapio"
	"capagent/internal/quote"
)

// captureOptions are the flags of `capture`.
type captureOptions struct {
	interfaces []string
	filter     string
	write      string
	format     string
	replace    bool
	noPromisc  bool
	packets    uint64
	snapLen    uint32
	fanout     int
	duration   time.Duration
	size       sizeFlag
	buffer     sizeFlag
	keylog     string

	noUpload      bool
	open          bool
	stream        bool
	tags          []string
	comment, name string

	command   []string // to run meanwhile; empty: none
	onFailure bool
	linger    time.Duration
}

// sizeFlag is a number of bytes as the configuration writes it.
type sizeFlag int64

func (s *sizeFlag) String() string { return config.Size(*s).String() }
func (s *sizeFlag) Type() string   { return "SIZE" }
func (s *sizeFlag) Set(text string) error {
	return (*config.Size)(s).UnmarshalText([]byte(text))
}

// defaultLinger lets packets come that a command's last words caused.
const defaultLinger = 300 * time.Millisecond

func (a *app) captureCommand() *cobra.Command {
	opts := captureOptions{buffer: capture.DefaultBuffer, fanout: 1}
	cmd := &cobra.Command{
		Use:   "capture [-i INTERFACE] [-f FILTER] [-- COMMAND...]",
		Short: "Capture packets, upload them and print the link",
		Long: `Capture packets from one or more network interfaces until --duration, --packets
or --size says so, or Ctrl-C; then upload them and print the link. The line below
shows what comes in and whether the kernel had to drop packets. --write keeps the
file, --no-upload sends nothing.

With a COMMAND, capture while it runs. It has the terminal and standard output to
itself, and its exit status is that of capagent; the link is on standard error.

FILTER is what tcpdump and Wireshark take (pcap-filter); "capagent interfaces"
lists what can be captured from.`,
		Example: "  capagent capture -i eth0 --duration 30s\n" +
			"  capagent capture -i eth0 -f 'tcp port 443 and host 192.0.2.7' --tag slow --open\n" +
			"  capagent capture --on-failure -- make integration-test\n" +
			"  capagent capture -i eth0 --packets 1000 --no-upload --write tls.pcapng",
		Args: func(cmd *cobra.Command, args []string) error {
			switch at := cmd.ArgsLenAtDash(); {
			case at == 0 && len(args) == 0:
				return usageError("there is no command behind --")
			case len(args) > 0 && at != 0:
				return usageError("%s: expected a flag; a command to run goes behind --, as in `capagent capture -- %s`", quote.Path(args[0]), quote.Text(args[0]))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.command = args
			if !cmd.Flags().Changed("linger") && len(args) > 0 {
				opts.linger = defaultLinger
			}
			return a.capture(cmd.Context(), opts)
		},
	}
	f := cmd.Flags()
	f.SetInterspersed(false) // what follows a forgotten -- is no flag of ours
	f.StringArrayVarP(&opts.interfaces, "interface", "i", nil, "capture on `INTERFACE`; may be repeated; \"any\" takes all (Linux)")
	f.StringVarP(&opts.filter, "filter", "f", "", "keep only packets that `FILTER` passes")
	f.StringVarP(&opts.write, "write", "w", "", "keep the packets in `FILE`; a name that ends in .pcapng makes it pcapng")
	f.StringVar(&opts.format, "format", "", "write `FORMAT`, pcap or pcapng, whatever the name says")
	f.BoolVar(&opts.replace, "overwrite", false, "replace FILE if it is there")
	f.DurationVar(&opts.duration, "duration", 0, "stop after `DURATION`")
	f.Uint64Var(&opts.packets, "packets", 0, "stop after `N` packets")
	f.Var(&opts.size, "size", "stop when the file has reached `SIZE`, such as 100MB")
	f.Uint32Var(&opts.snapLen, "snaplen", 0, "keep at most `BYTES` of each packet (262144)")
	f.BoolVar(&opts.noPromisc, "no-promiscuous", false, "leave out what is meant for other hosts")
	f.Var(&opts.buffer, "buffer", "memory for packets that wait to be written")
	f.IntVar(&opts.fanout, "fanout", 1, "share each interface's packets among `N` buffers (Linux)")
	f.BoolVar(&opts.noUpload, "no-upload", false, "send nothing; needs --write")
	f.BoolVar(&opts.stream, "stream", false, "send the packets while they are captured")
	f.BoolVar(&opts.open, "open", false, "open the link in the browser")
	f.StringArrayVar(&opts.tags, "tag", nil, "add a `TAG`; may be repeated")
	f.StringVar(&opts.comment, "comment", "", "`TEXT` for the session's comment")
	f.StringVar(&opts.name, "name", "", "name the session `NAME` instead of by the configured template")
	f.StringVar(&opts.keylog, "keylog", "", "send the TLS key log `FILE` along; COMMAND is told to write it")
	f.BoolVar(&opts.onFailure, "on-failure", false, "upload only when COMMAND fails")
	f.DurationVar(&opts.linger, "linger", 0, "go on for `DURATION` after COMMAND has ended (300ms)")
	a.destinationFlags(cmd)
	return cmd
}

// check says what is wrong with the flags, and in which format to write.
func (o *captureOptions) check() (pcapio.Format, error) {
	if slices.Contains(o.interfaces, live.Any) && len(o.interfaces) > 1 {
		return "", usageError(`-i any takes all interfaces; name no other beside it`)
	}
	if o.duration < 0 || o.size < 0 || o.linger < 0 || o.buffer <= 0 || o.fanout < 1 {
		return "", usageError("--duration, --size, --linger, --buffer and --fanout can't be below zero")
	}
	if err := o.checkUpload(); err != nil {
		return "", err
	}
	format, err := o.chosenFormat()
	if err != nil {
		return "", err
	}
	if o.stream && format == pcapio.Pcap {
		return "", usageError("--stream needs pcapng, which can say that a line is quiet; give --write a name that ends in .pcapng")
	}
	if o.noUpload && o.keylog != "" && format == pcapio.Pcap {
		return "", usageError("pcap can't hold a key log; give --write a name that ends in .pcapng")
	}
	if _, err := os.Lstat(o.write); o.write != "" && err == nil && !o.replace {
		return "", hintReplace(fmt.Errorf("create %s: %w", quote.Path(o.write), fs.ErrExist))
	}
	return format, nil
}

func (o *captureOptions) checkUpload() error {
	switch {
	case o.noUpload && o.write == "":
		return usageError("--no-upload needs --write FILE, or nothing would be left")
	case o.stream && o.onFailure:
		return usageError("--stream sends before it is known whether COMMAND fails: it doesn't go with --on-failure")
	case o.stream && o.keylog != "":
		return usageError("--stream sends before the keys are known: it doesn't go with --keylog")
	case o.noUpload && (o.open || o.stream || o.onFailure || o.comment != "" || o.name != "" || len(o.tags) > 0):
		return usageError("--no-upload makes no session: --open, --stream, --tag, --comment, --name and --on-failure don't go with it")
	case o.onFailure && len(o.command) == 0:
		return usageError("--on-failure needs a command behind --")
	case o.linger > 0 && len(o.command) == 0:
		return usageError("--linger needs a command behind --")
	}
	return nil
}

func (o *captureOptions) chosenFormat() (pcapio.Format, error) {
	switch o.format {
	case "":
	case string(pcapio.Pcap), string(pcapio.Pcapng):
		return pcapio.Format(o.format), nil
	default:
		return "", usageError("--format %s: expected pcap or pcapng", quote.Path(o.format))
	}
	if o.write == "" || strings.EqualFold(filepath.Ext(o.write), ".pcapng") {
		return pcapio.Pcapng, nil
	}
	return pcapio.Pcap, nil
}

func hintReplace(err error) error {
	if errors.Is(err, fs.ErrExist) {
		return usageError("%w; --overwrite replaces it", err)
	}
	return err
}
