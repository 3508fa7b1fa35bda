package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"capagent/internal/quote"
	"capagent/service/control"
)

func (a *app) rotateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "rotate [NAME]",
		Short: "Have the running agent end the files that it is capturing into",
		Long: `Have the running agent end the file that a live capture ([[capture]]) is writing,
and begin another with the next packet; without NAME those of all live captures.
The command returns when what was captured until then is recorded, and so is on
its way to CloudShark.`,
		Args: atMostOne("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := ""
			if len(args) > 0 {
				name = args[0]
			}
			return a.rotate(cmd.Context(), name)
		},
	}
}

func (a *app) rotate(ctx context.Context, name string) error {
	client, _, err := a.reach(ctx)
	if errors.Is(err, control.ErrNoAgent) {
		return exitWith(exitUnavailable, err)
	}
	if err != nil {
		return err
	}
	defer client.Close()
	all, err := client.Rotate(ctx, name)
	var told *control.Error
	if errors.As(err, &told) && told.Status == http.StatusNotFound {
		return exitWith(exitUsage, fmt.Errorf("rotate: %w", err))
	}
	if err != nil {
		return fmt.Errorf("rotate: %w", err)
	}
	if a.json {
		return a.encode(struct {
			Rotated []control.Rotated `json:"rotated"`
		}{all})
	}
	for _, r := range all {
		if !a.quiet {
			fmt.Fprintf(a.stdout, "%s: %s recorded\n", quote.Text(r.Name), count(r.Files, "file"))
		}
		if r.Problem != nil {
			a.say("%s", *r.Problem)
		}
	}
	return nil
}
