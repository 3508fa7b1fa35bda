package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode"
	"unsafe"

	"github.com/spf13/cobra"
	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc/mgr"

	"capagent/internal/config"
	"capagent/internal/safefile"
	"capagent/internal/secret"
	"capagent/service"
)

func (a *app) serviceCommands() []*cobra.Command {
	return []*cobra.Command{a.serviceRunCommand(), a.servicePrepareCommand()}
}

// given is what an installation was told by its properties.
type given struct{ url, tokenFile, watch string }

// tokenName is the secret that the installer keeps the token as.
const tokenName = "cloudshark-token"

// servicePrepareCommand is what the installer runs: all that is not copying files. Run
// again, by an upgrade or a repair, it changes nothing that is there.
func (a *app) servicePrepareCommand() *cobra.Command {
	var g given
	cmd := &cobra.Command{
		Use: "prepare", Short: "What the installer runs", Hidden: true, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			told := a.eventLog() // nobody sees what an installer's commands say
			err := a.prepare(cmd.Context(), g, told)
			if err != nil {
				told(true, "the installation failed: "+err.Error())
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&g.url, "url", "", "")
	f.StringVar(&g.tokenFile, "token-file", "", "")
	f.StringVar(&g.watch, "watch", "", "")
	return cmd
}

func (a *app) prepare(ctx context.Context, g given, told func(bool, string)) error {
	// The installer puts a blank behind each value, lest a path's last backslash escape
	// the quote.
	g = given{strings.TrimSpace(g.url), strings.TrimSpace(g.tokenFile), strings.TrimSpace(g.watch)}
	if err := makeRoom(""); err != nil {
		return err
	}
	if err := a.takeToken(ctx, g.tokenFile); err != nil {
		return err
	}
	path := filepath.Join(programData(), "agent.toml")
	if a.configPath != "" {
		path = a.configPath
	}
	switch _, err := os.Lstat(path); {
	case err == nil:
		if g.url != "" || g.watch != "" {
			told(false, path+" was there already, and stays as it is")
		}
	case errors.Is(err, fs.ErrNotExist):
		if err := firstConfig(ctx, path, g); err != nil {
			return err
		}
	default:
		return err
	}
	if err := setRecovery(); err != nil {
		told(true, "not all of the service could be set up: "+err.Error())
	}
	return nil
}

// takeToken keeps the token that a file holds. The file stays: it is the user's.
func (a *app) takeToken(ctx context.Context, file string) error {
	if file == "" {
		return nil
	}
	value, err := secret.Resolve(ctx, secret.Source{Key: "TOKENFILE", File: file})
	if err != nil {
		return err
	}
	a.redactor.Add(value)
	_, err = keepSecret(ctx, secret.DPAPI, tokenName, value)
	return err
}

// firstConfig writes the first configuration, if it is right.
func firstConfig(ctx context.Context, path string, g given) error {
	text, err := g.config()
	if err != nil {
		return err
	}
	if g.watch != "" {
		if err := os.MkdirAll(g.watch, 0o777); err != nil {
			return err
		}
	}
	draft := path + ".new"
	if err := safefile.Write(draft, []byte(text)); err != nil {
		return err
	}
	if _, err := service.LoadConfig(ctx, config.Options{Path: draft}, programData(), false); err != nil {
		return errors.Join(err, os.Remove(draft))
	}
	return os.Rename(draft, path)
}

// config is the text of the first configuration.
func (g given) config() (string, error) {
	for _, value := range []string{g.url, g.watch} {
		if strings.ContainsFunc(value, unicode.IsControl) || strings.ContainsAny(value, `"'`) {
			return "", errors.New("prepare: a property has quotes or control characters in it")
		}
	}
	var b strings.Builder
	b.WriteString("# Written by the installer, and yours from then on. agent.toml.example beside the\n# program has every key.\n[agent]\n")
	fmt.Fprintf(&b, "state_dir = '%s'\n\n[cloudshark]\n", filepath.Join(programData(), "state"))
	if g.url != "" {
		fmt.Fprintf(&b, "url = '%s'\n", g.url)
	}
	fmt.Fprintf(&b, "# as administrator: capagent secret set %s\ntoken = \"@{%s:%s}\"\n", tokenName, secret.DPAPI, tokenName)
	if g.watch != "" {
		fmt.Fprintf(&b, "\n[[watch]]\npath = '%s'\n", g.watch)
	}
	return b.String(), nil
}

// programData is the service's folder.
func programData() string { return filepath.Dir(secret.Vault()) }

// makeRoom makes the service's folders, and sees to their access lists. A state
// directory elsewhere that is there already keeps its own.
func makeRoom(stateDir string) error {
	if err := mustAdminister(); err != nil {
		return err
	}
	if err := safefile.MakePrivate(programData()); err != nil {
		return err
	}
	if _, err := os.Lstat(stateDir); stateDir == "" || !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return safefile.MakePrivate(stateDir)
}

// mustAdminister refuses who could make the service's folder, but then not write to it.
func mustAdminister() error {
	admins, err := windows.CreateWellKnownSid(windows.WinBuiltinAdministratorsSid)
	if err != nil {
		return err
	}
	// Of a user who could be administrator, but is not one now, the group only denies.
	if member, err := windows.Token(0).IsMember(admins); err != nil || !member {
		return errors.Join(err, fmt.Errorf("%w; run it as administrator", fs.ErrPermission))
	}
	return nil
}

// makeVault makes the folder of DPAPI's secrets.
func makeVault() error {
	if err := makeRoom(""); err != nil {
		return err
	}
	return safefile.MakePrivate(secret.Vault())
}

// afterInstall does what the installer does.
func (a *app) afterInstall() error { return errors.Join(makeRoom(""), setRecovery()) }

// setRecovery has the manager restart the service after crashes, and give it its time
// when the machine goes down.
func setRecovery() error {
	m, err := mgr.Connect()
	if err != nil {
		return err
	}
	defer func() { _ = m.Disconnect() }()
	s, err := m.OpenService(serviceName)
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	restart := mgr.RecoveryAction{Type: mgr.ServiceRestart, Delay: 10 * time.Second}
	timeout := uint32(preshutdownTime / time.Millisecond) // SERVICE_PRESHUTDOWN_INFO
	return errors.Join(
		s.SetRecoveryActions([]mgr.RecoveryAction{restart, restart, restart}, 24*60*60),
		windows.ChangeServiceConfig2(s.Handle, windows.SERVICE_CONFIG_PRESHUTDOWN_INFO, (*byte)(unsafe.Pointer(&timeout))), //nolint:gosec // the call takes a structure as bytes
		quoteProgram(s.Handle),
	)
}

// quoteProgram puts a program's path in quotes: without them C:\Program.exe would be
// tried first. Not every installer sees to that.
func quoteProgram(service windows.Handle) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	var most [8 << 10]byte // as much as there can be
	var needed uint32
	cfg := (*windows.QUERY_SERVICE_CONFIG)(unsafe.Pointer(&most)) //nolint:gosec // the call fills it, with texts behind it
	if err := windows.QueryServiceConfig(service, cfg, uint32(len(most)), &needed); err != nil {
		return err
	}
	args, bare := strings.CutPrefix(windows.UTF16PtrToString(cfg.BinaryPathName), program)
	if !bare {
		return nil
	}
	line, err := windows.UTF16PtrFromString(windows.EscapeArg(program) + args)
	if err != nil {
		return err
	}
	const same = windows.SERVICE_NO_CHANGE
	return windows.ChangeServiceConfig(service, same, same, same, line, nil, nil, nil, nil, nil, nil)
}
