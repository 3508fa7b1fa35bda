package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"capagent/capture/filter"
	"capagent/enrich"
	"capagent/enrich/flow"
	"capagent/enrich/indicator"
	"capagent/internal/inspect"
	"capagent/internal/ledger"
	"capagent/internal/pcapio"
	"capagent/internal/quote"
	"capagent/internal/safefile"
	"capagent/service"
)

// inspectMemory is in bytes; what an analysis holds at most is less.
const inspectMemory = 150 << 20

type inspectFlags struct {
	types  []string
	filter string
	all    bool
	lookup bool // ask the configured sources
	fail   bool // end with exitFindings when there are findings
}

func (a *app) inspectCommand() *cobra.Command {
	var flags inspectFlags
	cmd := &cobra.Command{
		Use:   "inspect FILE",
		Short: "List what is in a capture: addresses, hosts, URLs, files and other indicators",
		Long: `List the indicators of a capture file, each with the frame in which it appears
first, as Wireshark counts frames. Nothing is sent and nothing is recorded, but with --lookup: then the
configured sources are asked, and what they say is remembered.

Private, reserved and multicast addresses, and those in [inspect] own, are left
out; --all shows them.`,
		Example: "  capagent inspect trace.pcapng\n  capagent inspect --type host,url trace.pcapng\n  capagent inspect --filter 'host 192.0.2.7 and tcp' --json trace.pcapng",
		Args:    exactlyOne("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.inspect(cmd.Context(), args[0], flags)
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&flags.types, "type", nil, "only indicators of `TYPE` ("+strings.Join(indicator.Types(), ", ")+")")
	f.StringVarP(&flags.filter, "filter", "f", "", "only packets that pass the pcap-filter `EXPRESSION`")
	f.BoolVar(&flags.lookup, "lookup", false, "ask ThreatConnect, and the lists of the configuration, what they know of it")
	f.BoolVar(&flags.fail, "fail-on-findings", false, "with --lookup: end with exit code 5 when something is known to be bad")
	f.BoolVar(&flags.all, "all", false, "also addresses that are private, reserved, multicast or your own")
	_ = cmd.RegisterFlagCompletionFunc("type", cobra.FixedCompletions(indicator.Types(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (a *app) inspect(ctx context.Context, path string, flags inspectFlags) error {
	for _, t := range flags.types {
		if _, ok := indicator.ParseType(t); !ok {
			return usageError("--type %s: no such type; the types are %s", quote.Path(t), strings.Join(indicator.Types(), ", "))
		}
	}
	cfg, err := a.config(ctx)
	if err != nil {
		return err
	}
	// The collector may work harder rather than take more than this.
	debug.SetMemoryLimit(inspectMemory)
	looked, err := look(ctx, path, flags.filter)
	if err != nil {
		return err
	}
	v := newInspected(path, looked, flags, cfg.Inspect.Prefixes())
	var unanswered error
	if flags.lookup || flags.fail {
		if v.Findings, unanswered, err = a.lookup(ctx, looked); err != nil {
			return err
		}
	}
	if a.json {
		err = a.encodeInspected(v)
	} else {
		err = a.showInspected(v, len(flags.types) > 0)
	}
	switch {
	case err != nil:
		return err
	case len(v.Findings) > 0 && flags.fail:
		return exitWith(exitFindings, fmt.Errorf("%s: %s", quote.Path(v.Name), count(len(v.Findings), "finding")))
	}
	return unanswered
}

// lookup asks the configured sources of what was found. The second error says that
// not everything was answered for.
func (a *app) lookup(ctx context.Context, looked service.Looked) (views []service.FindingView, unanswered, err error) {
	cfg, err := a.load(ctx, true)
	if err != nil {
		return nil, nil, err
	}
	if !cfg.LooksUp() {
		return nil, nil, exitWith(exitConfig, errors.New("--lookup: no [threatconnect] and no [[list]] is configured"))
	}
	if err := os.MkdirAll(cfg.StateDir(), 0o700); err != nil {
		return nil, nil, err
	}
	l, err := ledger.Open(ctx, cfg.LedgerPath(), ledger.Options{Log: a.commandLogger(cfg)})
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	sources, err := service.NewLookup(cfg, l, version, a.commandLogger(cfg))
	if err != nil {
		return nil, nil, err
	}
	result := sources.Indicators(ctx, time.Time{}, looked.Indicators)
	views = []service.FindingView{}
	for _, f := range result.Findings {
		views = append(views, service.NewFindingView(f, ""))
	}
	return views, result.Err, ctx.Err()
}

// encodeInspected prints one JSON object, whose indicators are never held as text
// all at once.
func (a *app) encodeInspected(v inspected) (err error) {
	flush := a.buffered()
	defer func() { err = errors.Join(err, flush()) }()
	var text bytes.Buffer
	out := json.NewEncoder(&text)
	out.SetEscapeHTML(false)
	if err := out.Encode(v); err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "%s,\"indicators\":[", bytes.TrimRight(text.Bytes(), "}\n"))
	for i, one := range v.Indicators {
		text.Reset()
		if i > 0 {
			text.WriteByte(',')
		}
		if err := out.Encode(one); err != nil {
			return err
		}
		if _, err := a.stdout.Write(bytes.TrimRight(text.Bytes(), "\n")); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintln(a.stdout, "]}")
	return err
}

// look reads the file, or standard input.
func look(ctx context.Context, path, expression string) (service.Looked, error) {
	f, _, err := safefile.Open(path)
	if err != nil {
		return service.Looked{}, fmt.Errorf("inspect %s: %w", quote.Path(path), safefile.Cause(err))
	}
	defer func() { _ = f.Close() }()
	s := selection{ctx: ctx, expression: expression, programs: map[int]*filter.Program{}}
	var pass func(*pcapio.Packet) bool
	if expression != "" {
		if err := s.check(f); err != nil {
			return service.Looked{}, err
		}
		pass = s.pass
	}
	looked, err := service.LookAt(ctx, f, inspect.Observer{}, pass)
	if err != nil {
		return looked, fmt.Errorf("inspect %s: %w", quote.Path(path), err)
	}
	return looked, s.err
}

// selection is a filter on the packets of a file, which may be of several link types.
type selection struct {
	ctx        context.Context //nolint:containedctx // of one command
	expression string
	programs   map[int]*filter.Program
	err        error
}

// check compiles the filter for the file's first link type, so that a mistake is
// told before anything is read.
func (s *selection) check(f *os.File) error {
	linkType := 1
	if p, err := pcapio.Unwrap(f, pcapio.DefaultBudget()); err == nil {
		if r, err := pcapio.NewReader(p); err == nil && len(r.LinkTypes()) > 0 {
			linkType = r.LinkTypes()[0]
		}
		_ = p.Close()
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	s.program(linkType)
	return s.err
}

func (s *selection) program(linkType int) *filter.Program {
	p, known := s.programs[linkType]
	if !known {
		var err error
		if p, err = filter.Compile(s.ctx, s.expression, filter.Options{LinkType: linkType, Target: filter.File}); err != nil && s.err == nil {
			s.err = usageError("--filter %s, for link type %s: %w", quote.Text(s.expression), pcapio.LinkTypeName(linkType), err)
		}
		s.programs[linkType] = p
	}
	return p
}

func (s *selection) pass(p *pcapio.Packet) bool {
	program := s.program(p.LinkType)
	return program != nil && program.Match(p.Data, p.OrigLen)
}

// inspected is what --json shows: a capture without its session, and what is in it.
type inspected struct {
	Path        string                `json:"path"`
	Name        string                `json:"name"`
	Size        int64                 `json:"size"`
	Format      string                `json:"format"`
	Packets     int64                 `json:"packets"`
	PacketBytes int64                 `json:"packet_bytes"`
	First       *time.Time            `json:"first"`
	Last        *time.Time            `json:"last"`
	Disorder    int64                 `json:"disorder"`
	LinkTypes   []string              `json:"link_types"`
	Truncated   bool                  `json:"truncated"`
	Note        *string               `json:"note"`
	SHA256      string                `json:"sha256"`
	SHA1        string                `json:"sha1"`
	Tags        []string              `json:"tags"`
	Findings    []service.FindingView `json:"findings"`
	Error       *string               `json:"error"`
	Indicators  []indicatorView       `json:"indicators"`
	LeftOut     int                   `json:"left_out"` // addresses that --all would show
	Bindings    []bindingView         `json:"bindings"`
	Flows       flow.Summary          `json:"flows"`
	Limits      []limitView           `json:"limits"`
	NotDecoded  map[string]int64      `json:"not_decoded"` // frames by link type
	Failed      map[string]int64      `json:"failed"`      // by parser
	Complete    bool                  `json:"complete"`    // no limit was met and no parser failed; the last field, behind which the indicators are written
}

type indicatorView struct {
	Type       string    `json:"type"`
	Value      string    `json:"value"`
	Count      int64     `json:"count"`
	FirstFrame int64     `json:"first_frame"`
	First      time.Time `json:"first"`
	Last       time.Time `json:"last"`
	Seen       []string  `json:"seen"`
}

type bindingView struct {
	MAC        string     `json:"mac"`
	IP         netip.Addr `json:"ip"`
	How        string     `json:"how"`
	Name       *string    `json:"name"`
	Count      int64      `json:"count"`
	FirstFrame int64      `json:"first_frame"`
}

type limitView struct {
	Name  string `json:"name"`
	Count int64  `json:"count"`
	Text  string `json:"text"`
}

func newInspected(path string, l service.Looked, flags inspectFlags, own []netip.Prefix) inspected {
	abs, err := filepath.Abs(path)
	if err != nil {
		abs = path
	}
	view := service.NewView(ledger.Capture{Path: abs, Name: filepath.Base(path), Inspection: l.Inspection})
	v := inspected{
		Path: view.Path, Name: view.Name, Size: view.Size, Format: view.Format, Packets: view.Packets, PacketBytes: view.PacketBytes,
		First: view.First, Last: view.Last, Disorder: view.Disorder, LinkTypes: view.LinkTypes, Truncated: view.Truncated,
		Note: view.Note, SHA256: view.SHA256, SHA1: view.SHA1, Tags: []string{}, Findings: []service.FindingView{},
		Indicators: []indicatorView{}, Bindings: []bindingView{}, Flows: l.Result.Summary, Limits: []limitView{},
		NotDecoded: map[string]int64{}, Failed: l.Failed,
	}
	list := l.Indicators
	if !flags.all {
		list = enrich.Interesting(list, own)
		v.LeftOut = len(l.Indicators) - len(list)
	}
	for _, i := range list {
		if len(flags.types) == 0 || slices.Contains(flags.types, i.Type.String()) {
			v.Indicators = append(v.Indicators, indicatorView{i.Type.String(), i.Value, i.Count, i.First.Frame, i.FirstTime(), i.LastTime(), i.Role.Names()})
		}
	}
	for _, b := range l.Bindings {
		one := bindingView{MAC: net.HardwareAddr(b.MAC[:]).String(), IP: b.IP, How: b.How.String(), Count: b.Count, FirstFrame: b.First.Frame}
		if b.Name != "" {
			one.Name = &b.Name
		}
		v.Bindings = append(v.Bindings, one)
	}
	for _, name := range slices.Sorted(maps.Keys(l.Limits)) {
		v.Limits = append(v.Limits, limitView{string(name), l.Limits[name], enrich.Explain(name)})
	}
	v.Complete = len(v.Limits) == 0 && len(v.Failed) == 0
	for t, n := range l.NotDecoded {
		v.NotDecoded[pcapio.LinkTypeName(t)] += n
	}
	return v
}

// showInspected prints what is in a capture for people; with digests every one of
// a body, else the SHA-256 only.
func (a *app) showInspected(v inspected, digests bool) error {
	for _, f := range v.Findings {
		fmt.Fprintf(a.stdout, "finding: %s %s, rating %g, confidence %d (%s), frame %d\n", f.Type, quote.Text(short(f.Indicator)), f.Rating, f.Confidence, quote.Text(f.Owner), f.FirstFrame)
	}
	a.say("%s: %s, %s, sha256 %s", quote.Path(v.Name), count(int(v.Packets), "packet"), humanize.IBytes(uint64(v.Size)), v.SHA256)
	table := tabwriter.NewWriter(a.stdout, 0, 8, 2, ' ', 0)
	if len(v.Indicators) > 0 {
		fmt.Fprintln(table, "TYPE\tVALUE\tFRAME\tCOUNT\tSEEN IN")
	}
	for _, i := range v.Indicators {
		if !digests && (i.Type == indicator.File.String() || i.Type == indicator.Certificate.String()) && len(i.Value) != 2*sha256.Size {
			continue // the same thing by a shorter digest
		}
		fmt.Fprintf(table, "%s\t%s\t%d\t%d\t%s\n", i.Type, quote.Text(short(i.Value)), i.FirstFrame, i.Count, strings.Join(i.Seen, ", "))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	a.aboutInspected(v)
	return nil
}

// aboutInspected says what the table does not.
func (a *app) aboutInspected(v inspected) {
	if len(v.Indicators) == 0 {
		a.say("no indicators")
	}
	if v.LeftOut > 0 {
		a.say("%s left out: private, reserved, multicast or your own (--all shows them)", count(v.LeftOut, "address"))
	}
	var protocols []string
	for _, p := range v.Flows.Protocols[:min(len(v.Flows.Protocols), 8)] {
		protocols = append(protocols, p.Name+" "+humanize.IBytes(uint64(p.Bytes)))
	}
	if len(protocols) > 0 {
		a.say("%s: %s", count(int(v.Flows.Flows), "flow"), strings.Join(protocols, ", "))
	}
	if v.Note != nil {
		a.say("note: %s", quote.Text(*v.Note))
	}
	for t, n := range v.NotDecoded {
		a.say("not decoded: %s of link type %s without IP", count(int(n), "frame"), t)
	}
	for _, l := range v.Limits {
		a.say("limit met: %s (%s, %d times)", l.Text, l.Name, l.Count)
	}
	for parser, n := range v.Failed {
		a.say("the parser %s failed %s; what it looked at is missing here", parser, count(int(n), "time"))
	}
}
