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

	"capagent/internal/quote"
	"capagent/internal/secret"
	"capagent/upload/cloudsharktest"
)

type sandboxOptions struct {
	listen, dir, tokenFile string
	faults                 []string
	stopAfter              time.Duration
}

// sandboxReady is what `sandbox --json` prints when it can be used.
type sandboxReady struct {
	URL       string `json:"url"`
	Config    string `json:"config"`
	TokenFile string `json:"token_file"`
	Dir       string `json:"dir"`
	PID       int    `json:"pid"`
}

func (a *app) sandboxCommand() *cobra.Command {
	var opts sandboxOptions
	var list bool
	cmd := &cobra.Command{
		Use:   "sandbox",
		Short: "Run a local stand-in for CloudShark, to try things out",
		Long: `Run a stand-in for CloudShark on this machine: its API, and a small page that
shows the sessions. Captures stay in its folder. It listens on loopback only and
writes a configuration that the other commands take with --config.

It can misbehave on request, to see what the agent does then; --faults lists how.`,
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
	f.StringVar(&opts.dir, "dir", "sandbox", "keep captures, token and configuration in `DIR`")
	f.StringVar(&opts.tokenFile, "token-file", "", "accept the token in `FILE` instead of one of its own")
	f.StringArrayVar(&opts.faults, "fault", nil, "misbehave: `NAME[:key=value,...]`; may be repeated")
	f.BoolVar(&list, "faults", false, "list the faults")
	f.DurationVar(&opts.stopAfter, "stop-after", 0, "stop by itself after `DURATION`")
	return cmd
}

func (a *app) listFaults() error {
	for _, f := range cloudsharktest.FaultNames() {
		if a.json {
			if err := a.encode(map[string]string{"name": f.Name, "meaning": f.Meaning}); err != nil {
				return err
			}
			continue
		}
		if _, err := fmt.Fprintf(a.stdout, "%-16s %s\n", f.Name, f.Meaning); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) sandbox(ctx context.Context, opts sandboxOptions) error {
	var faults []cloudsharktest.Fault
	for _, text := range opts.faults {
		f, err := cloudsharktest.ParseFault(text)
		if err != nil {
			return usageError("--fault %s: %w", quote.Path(text), err)
		}
		faults = append(faults, f)
	}
	listener, err := listenLoopback(ctx, opts.listen)
	if err != nil {
		return err
	}
	defer func() { _ = listener.Close() }()
	ready, token, err := a.prepareSandbox(opts, "http://"+listener.Addr().String())
	if err != nil {
		return err
	}
	log, _ := a.logger("warn", "auto")
	server, err := cloudsharktest.New(cloudsharktest.Options{
		Dir: filepath.Join(ready.Dir, "captures"), Tokens: []cloudsharktest.Token{{Value: token}},
		AllowCut: true, LoopbackNames: true, KeepRequests: 1, BaseURL: ready.URL, Log: log,
	})
	if err != nil {
		return err
	}
	defer func() { _ = server.Close() }()
	for _, f := range faults {
		server.AddFault(f)
	}
	if err := a.announce(ready); err != nil {
		return err
	}
	if opts.stopAfter > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, opts.stopAfter)
		defer cancel()
	}
	return serve(ctx, listener, server)
}

func serve(ctx context.Context, listener net.Listener, server *cloudsharktest.Server) error {
	h := cloudsharktest.NewHTTPServer(server.Handler())
	served := make(chan error, 1)
	go func() { served <- h.Serve(listener) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
		_ = server.Close() // releases requests that hang
		_ = h.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	}
}

func listenLoopback(ctx context.Context, address string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, usageError("--listen %s: expected ADDRESS:PORT", quote.Path(address))
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, usageError("--listen %s: the sandbox asks nobody for a password, so it listens on loopback only", quote.Path(address))
	}
	var lc net.ListenConfig
	return lc.Listen(ctx, "tcp", address)
}

// prepareSandbox makes the folder, the token and the configuration.
func (a *app) prepareSandbox(opts sandboxOptions, url string) (sandboxReady, string, error) {
	dir, err := filepath.Abs(opts.dir)
	if err != nil {
		return sandboxReady{}, "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return sandboxReady{}, "", fmt.Errorf("sandbox: %w", err)
	}
	ready := sandboxReady{URL: url, Config: filepath.Join(dir, "agent.toml"), TokenFile: opts.tokenFile, Dir: dir, PID: os.Getpid()}
	if ready.TokenFile == "" {
		ready.TokenFile = filepath.Join(dir, "token")
	} else if ready.TokenFile, err = filepath.Abs(ready.TokenFile); err != nil {
		return ready, "", err
	}
	token, err := os.ReadFile(ready.TokenFile)
	if errors.Is(err, os.ErrNotExist) && opts.tokenFile == "" {
		var random [16]byte
		_, _ = rand.Read(random[:]) // never fails
		token = []byte(hex.EncodeToString(random[:]) + "\n")
		err = os.WriteFile(ready.TokenFile, token, 0o600)
	}
	if err != nil {
		return ready, "", fmt.Errorf("sandbox: %w", err)
	}
	text := strings.TrimSpace(string(token))
	a.redactor.Add(secret.New(text))
	config := fmt.Sprintf("# Made by `capagent sandbox`: the agent, talking to it.\n\n[agent]\nstate_dir = %q\n\n[cloudshark]\nurl = %q\ntoken_file = %q\n",
		filepath.Join(dir, "state"), url, ready.TokenFile)
	return ready, text, os.WriteFile(ready.Config, []byte(config), 0o600)
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
	_, err := fmt.Fprintf(a.stdout, "capagent sandbox: %s/\nconfiguration:    %s\ntry it:           capagent --config %s upload FILE\n",
		ready.URL, quote.Path(shown), quote.Path(shown))
	return err
}
