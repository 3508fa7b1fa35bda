package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"capagent/service/control"
)

func (a *app) reloadCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "reload",
		Short: "Have the running agent read its configuration again",
		Long: `Have the running agent read its configuration again. When that has mistakes they
are listed, and the agent goes on with what it had.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.reload(cmd.Context()) },
	}
}

func (a *app) reload(ctx context.Context) error {
	client, _, err := a.reach(ctx)
	if errors.Is(err, control.ErrNoAgent) {
		return exitWith(exitUnavailable, err)
	}
	if err != nil {
		return err
	}
	defer client.Close()
	err = client.Reload(ctx)
	var told *control.Error
	if errors.As(err, &told) && told.Status == http.StatusUnprocessableEntity {
		return exitWith(exitConfig, err)
	}
	if err != nil {
		return err
	}
	if a.json {
		return a.encode(struct {
			Reloaded bool `json:"reloaded"`
		}{true})
	}
	if !a.quiet {
		_, err = fmt.Fprintln(a.stdout, "reloaded")
	}
	return err
}
