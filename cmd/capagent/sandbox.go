package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"capagent/enrich/threatconnecttest"
	"capagent/internal/quote"
	"capagent/internal/secret"
	"capagent/internal/standin"
	"capagent/upload/cloudsharktest"
)

type sandboxOptions struct {
	listen, threatConnect, dir, tokenFile string
	faults                                []string
	stopAfter                             time.Duration
}

// sandboxReady is what `sandbox --json` prints when it can be used.
type sandboxReady struct {
	URL       string `json:"url"`
	Config    string `json:"config"`
	TokenFile string `json:"token_file"`
	Dir       string `json:"dir"`
	PID       int    `json:"pid"`

	ThreatConnect sandboxThreatConnect `json:"threatconnect"`
	Platforms     map[string]string    `json:"platforms"` // addresses, by the name of their table
}

// sandboxThreatConnect is what a client of the sandbox's ThreatConnect needs.
type sandboxThreatConnect struct {
	URL        string `json:"url"` // with the path that the API lies under
	AccessID   string `json:"access_id"`
	SecretFile string `json:"secret_file"`
}

// sandboxAccessID is no secret: it looks like one that ThreatConnect gives.
const sandboxAccessID = "10000000000000000001"

// threatConnectFault is what faults of ThreatConnect begin with, the others are
// CloudShark's.
const threatConnectFault = "threatconnect:"

func (a *app) sandboxCommand() *cobra.Command {
	var opts sandboxOptions
	var list bool
	cmd := &cobra.Command{
		Use:   "sandbox",
		Short: "Run local stand-ins for CloudShark and its neighbours, to try things out",
		Long: `Run a stand-in for CloudShark on this machine: its API, and a small page that
shows the sessions. Captures stay in its folder. It listens on loopback only and
writes a configuration that the other commands take with --config.

Beside it run stand-ins, each with a page of its own: for ThreatConnect, which knows the
indicators of the example captures, for Cado, into which flagged captures are imported,
for CloudTrax and CloudShare, which have names for their machines.

They can misbehave on request, to see what the agent does then; --faults lists how.`,
		Example: "  capagent sandbox\n  capagent --config sandbox/agent.toml upload trace.pcap   # in another terminal",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if list {
				return a.listFaults()
			}
			return a.sandbox(cmd.Context(), opts)
		},
	}
	f := cmd.Flags()
	f.StringVar(&opts.listen, "listen", "127.0.0.1:8765", "loopback `ADDRESS` to listen on; port 0 takes a free one")
	f.StringVar(&opts.threatConnect, "threatconnect", "127.0.0.1:0", "loopback `ADDRESS` for the stand-in of ThreatConnect")
	f.StringVar(&opts.dir, "dir", "sandbox", "keep captures, token and configuration in `DIR`")
	f.StringVar(&opts.tokenFile, "token-file", "", "accept the token in `FILE` instead of one of its own")
	f.StringArrayVar(&opts.faults, "fault", nil, "misbehave: `NAME[:key=value,...]`; may be repeated")
	f.BoolVar(&list, "faults", false, "list the faults")
	f.DurationVar(&opts.stopAfter, "stop-after", 0, "stop by itself after `DURATION`")
	return cmd
}

func (a *app) listFaults() error {
	type fault struct{ name, meaning string }
	var faults []fault
	for _, f := range cloudsharktest.FaultNames() {
		faults = append(faults, fault{f.Name, f.Meaning})
	}
	for _, f := range threatconnecttest.FaultNames() {
		faults = append(faults, fault{threatConnectFault + f.Name, f.Meaning})
	}
	for _, p := range platforms() {
		for _, k := range standin.Kinds(p.kinds) {
			faults = append(faults, fault{p.name + ":" + k.Name, k.Meaning})
		}
	}
	for _, f := range faults {
		if a.json {
			if err := a.encode(map[string]string{"name": f.name, "meaning": f.meaning}); err != nil {
				return err
			}
			continue
		}
		if _, err := fmt.Fprintf(a.stdout, "%-27s %s\n", f.name, f.meaning); err != nil {
			return err
		}
	}
	return nil
}

// sandboxFaults are those of --fault, by the server that has them.
type sandboxFaults struct {
	cloudShark    []cloudsharktest.Fault
	threatConnect []threatconnecttest.Fault
	platforms     map[string][]standin.Fault
}

func parseSandboxFaults(texts []string) (sandboxFaults, error) {
	out := sandboxFaults{platforms: map[string][]standin.Fault{}}
	for _, text := range texts {
		name, f, ok, err := platformFault(text)
		if ok {
			out.platforms[name] = append(out.platforms[name], f)
		} else if rest, ok := strings.CutPrefix(text, threatConnectFault); ok {
			var f threatconnecttest.Fault
			f, err = threatconnecttest.ParseFault(rest)
			out.threatConnect = append(out.threatConnect, f)
		} else {
			var f cloudsharktest.Fault
			f, err = cloudsharktest.ParseFault(text)
			out.cloudShark = append(out.cloudShark, f)
		}
		if err != nil {
			return out, usageError("--fault %s: %w", quote.Path(text), err)
		}
	}
	return out, nil
}

func (a *app) sandbox(ctx context.Context, opts sandboxOptions) error {
	faults, err := parseSandboxFaults(opts.faults)
	if err != nil {
		return err
	}
	listener, err := listenLoopback(ctx, "--listen", opts.listen)
	if err != nil {
		return err
	}
	defer func() { _ = listener.Close() }()
	tcListener, err := listenLoopback(ctx, "--threatconnect", opts.threatConnect)
	if err != nil {
		return err
	}
	defer func() { _ = tcListener.Close() }()
	log, _ := a.logger("warn", "auto")
	if opts.dir, err = filepath.Abs(opts.dir); err != nil {
		return err
	}
	if err := os.MkdirAll(opts.dir, 0o700); err != nil {
		return fmt.Errorf("sandbox: %w", err)
	}
	others, err := a.startPlatforms(ctx, opts.dir, log)
	defer func() {
		for _, p := range others {
			_ = p.listener.Close()
		}
	}()
	if err != nil {
		return err
	}
	ready, keys, err := a.prepareSandbox(opts, "http://"+listener.Addr().String(), "http://"+tcListener.Addr().String(), others)
	if err != nil {
		return err
	}
	server, err := cloudsharktest.New(cloudsharktest.Options{
		Dir: filepath.Join(ready.Dir, "captures"), Tokens: []cloudsharktest.Token{{Value: keys.token}},
		AllowCut: true, LoopbackNames: true, KeepRequests: 1, BaseURL: ready.URL, Log: log,
	})
	if err != nil {
		return err
	}
	defer func() { _ = server.Close() }()
	for _, f := range faults.cloudShark {
		server.AddFault(f)
	}
	tc := threatconnecttest.New(threatconnecttest.Options{
		AccessID: sandboxAccessID, SecretKey: keys.secret, Tidy: true, LoopbackNames: true, KeepRequests: 1000,
		BaseURL: "http://" + tcListener.Addr().String(), Log: log,
	})
	defer func() { _ = tc.Close() }()
	tc.Demo()
	for _, f := range faults.threatConnect {
		tc.AddFault(f)
	}
	if err := a.announce(ready); err != nil {
		return err
	}
	if opts.stopAfter > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, opts.stopAfter)
		defer cancel()
	}
	all := []served{
		{cloudsharktest.NewHTTPServer(server.Handler()), listener, server.Close},
		{threatconnecttest.NewHTTPServer(tc.Handler()), tcListener, tc.Close},
	}
	for _, p := range others {
		for _, f := range faults.platforms[p.name] {
			p.server.AddFault(f)
		}
		all = append(all, served{standin.NewHTTPServer(p.server.Handler()), p.listener, p.server.Close})
	}
	return serveAll(ctx, all...)
}

// served is one server of the sandbox. Its release lets requests that hang go.
type served struct {
	http     *http.Server
	listener net.Listener
	release  func() error
}

// serveAll serves until ctx ends, or until one of them fails.
func serveAll(ctx context.Context, servers ...served) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, len(servers))
	for _, s := range servers {
		go func() {
			err := s.http.Serve(s.listener)
			if errors.Is(err, http.ErrServerClosed) {
				err = nil
			}
			cancel()
			ended <- err
		}()
	}
	<-ctx.Done()
	for _, s := range servers {
		_ = s.release()
		_ = s.http.Close()
	}
	var err error
	for range servers {
		err = errors.Join(err, <-ended)
	}
	return err
}

func listenLoopback(ctx context.Context, flag, address string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, usageError("%s %s: expected ADDRESS:PORT", flag, quote.Path(address))
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, usageError("%s %s: the sandbox asks nobody for a password, so it listens on loopback only", flag, quote.Path(address))
	}
	var lc net.ListenConfig
	return lc.Listen(ctx, "tcp", address)
}

// sandboxKeys are what clients of the sandbox show.
type sandboxKeys struct{ token, secret string }

// prepareSandbox makes the folder, the keys and the configuration.
func (a *app) prepareSandbox(opts sandboxOptions, url, threatConnect string, others []sandboxPlatform) (sandboxReady, sandboxKeys, error) {
	var keys sandboxKeys
	dir := opts.dir
	var err error
	ready := sandboxReady{URL: url, Config: filepath.Join(dir, "agent.toml"), TokenFile: opts.tokenFile, Dir: dir, PID: os.Getpid()}
	ready.ThreatConnect = sandboxThreatConnect{threatConnect + "/api", sandboxAccessID, filepath.Join(dir, "threatconnect-secret")}
	if ready.TokenFile == "" {
		ready.TokenFile = filepath.Join(dir, "token")
	} else if ready.TokenFile, err = filepath.Abs(ready.TokenFile); err != nil {
		return ready, keys, err
	}
	if keys.token, err = a.sandboxKey(ready.TokenFile, opts.tokenFile == ""); err != nil {
		return ready, keys, err
	}
	if keys.secret, err = a.sandboxKey(ready.ThreatConnect.SecretFile, true); err != nil {
		return ready, keys, err
	}
	config := fmt.Sprintf("# Made by `capagent sandbox`: the agent, talking to it.\n\n[agent]\nstate_dir = %q\n\n[cloudshark]\nurl = %q\ntoken_file = %q\n",
		filepath.Join(dir, "state"), url, ready.TokenFile)
	config += fmt.Sprintf("\n[threatconnect]\nurl = %q\naccess_id = %q\nsecret_key_file = %q\n",
		ready.ThreatConnect.URL, ready.ThreatConnect.AccessID, ready.ThreatConnect.SecretFile)
	ready.Platforms = map[string]string{}
	for _, p := range others {
		if p.table != "" {
			config += "\n" + p.table
		}
		ready.Platforms[p.name] = p.url
	}
	return ready, keys, os.WriteFile(ready.Config, []byte(config), 0o600)
}

// sandboxKey reads a key, and makes one where there is none yet if it may.
func (a *app) sandboxKey(file string, mayMake bool) (string, error) {
	key, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) && mayMake {
		var random [16]byte
		_, _ = rand.Read(random[:]) // never fails
		key = []byte(hex.EncodeToString(random[:]) + "\n")
		err = os.WriteFile(file, key, 0o600)
	}
	if err != nil {
		return "", fmt.Errorf("sandbox: %w", err)
	}
	text := strings.TrimSpace(string(key))
	a.redactor.Add(secret.New(text))
	return text, nil
}

func (a *app) announce(ready sandboxReady) error {
	if a.json {
		return a.encode(ready)
	}
	shown := ready.Config
	if wd, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(wd, shown); err == nil && filepath.IsLocal(rel) {
			shown = rel
		}
	}
	lines := fmt.Sprintf("capagent sandbox: %s/\nThreatConnect:    %s/\n", ready.URL, strings.TrimSuffix(ready.ThreatConnect.URL, "/api"))
	for _, p := range platforms() {
		if p.name == sandboxS3 {
			continue // it has no page
		}
		lines += fmt.Sprintf("%-17s %s/\n", p.title+":", ready.Platforms[p.name])
	}
	_, err := fmt.Fprintf(a.stdout, "%sconfiguration:    %s\ntry it:           capagent --config %s upload FILE\n", lines, quote.Path(shown), quote.Path(shown))
	return err
}
