package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"capagent/internal/secret"
)

func (a *app) secretCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "secret",
		Short: "Keep secrets where the system keeps them, for the configuration to name",
		Long: `Keep tokens and keys out of files: in the keyring of the user who is logged on, or, on
Windows and for the service, sealed by DPAPI with the machine's key in a folder that only
the system and administrators may read. The configuration names a secret by the reference
that set prints. A service on Linux takes systemd's credentials or files instead.`,
		Args: noArgs,
	}
	store := secret.DefaultStore()
	set := &cobra.Command{
		Use:   "set NAME",
		Short: "Keep what standard input says, or what is typed, and print the reference to it",
		Example: "  capagent secret set cloudshark-token\n" +
			"  pass show cloudshark | capagent secret set cloudshark-token",
		Args: exactlyOne("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.setSecret(cmd.Context(), store, args[0]) },
	}
	forget := &cobra.Command{
		Use: "forget NAME", Short: "Remove a secret", Args: exactlyOne("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.forgetSecret(cmd.Context(), store, args[0]) },
	}
	for _, c := range []*cobra.Command{set, forget} {
		c.Flags().StringVar(&store, "store", store, "keep it in `STORE`: keyring, or dpapi for the service on Windows")
	}
	cmd.AddCommand(set, forget)
	return cmd
}

func (a *app) setSecret(ctx context.Context, store, name string) error {
	value, err := a.readSecret(name)
	if err != nil {
		return fmt.Errorf("secret: standard input: %w", err)
	}
	a.redactor.Add(value)
	reference, err := keepSecret(ctx, store, name, value)
	if err != nil {
		return secretError(err)
	}
	if a.json {
		return a.encode(map[string]string{"reference": reference, "did": "set"})
	}
	_, err = fmt.Fprintln(a.stdout, reference)
	return err
}

// keepSecret stores value where the service finds it, too.
func keepSecret(ctx context.Context, store, name string, value secret.Secret) (string, error) {
	if store == secret.DPAPI {
		if err := makeVault(); err != nil {
			return "", err
		}
	}
	return secret.Keep(ctx, store, name, value)
}

func (a *app) forgetSecret(ctx context.Context, store, name string) error {
	if err := secret.Forget(ctx, store, name); err != nil {
		return secretError(err)
	}
	if a.json {
		return a.encode(map[string]string{"reference": "@{" + store + ":" + name + "}", "did": "forgotten"})
	}
	return nil
}

// readSecret takes a secret from the terminal without showing it, or from what is piped in.
func (a *app) readSecret(name string) (secret.Secret, error) {
	f, ok := a.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return secret.Read(a.stdin)
	}
	fmt.Fprintf(a.stderr, "%s: ", name)
	text, err := term.ReadPassword(int(f.Fd()))
	fmt.Fprintln(a.stderr)
	if err == nil && len(text) == 0 {
		err = errors.New("empty")
	}
	return secret.New(string(text)), err
}

func secretError(err error) error {
	err = fmt.Errorf("secret: %w", err)
	if errors.Is(err, fs.ErrPermission) {
		return exitWith(exitPermission, err)
	}
	return err
}
