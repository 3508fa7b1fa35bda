package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"capagent/enrich/cado"
	"capagent/internal/quote"
	"capagent/service"
)

func (a *app) cadoCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cado",
		Short: "Import captures into Cado, and see what became of them",
		Long: `Cado is a platform for investigations; [cado] says where yours is. The agent imports
captures by itself where [cado] import is "flagged" or "all". These commands are for
responders: they list projects, import a file, follow an import, read a timeline,
and acquire EC2 machines.`,
	}
	cmd.AddCommand(a.cadoProjectsCommand(), a.cadoImportCommand(), a.cadoPipelineCommand(), a.cadoTimelineCommand(), a.cadoEC2Command())
	return cmd
}

// cado returns a client by the configuration.
func (a *app) cado(ctx context.Context) (service.Config, *cado.Client, error) {
	cfg, err := a.fullConfig(ctx)
	if err != nil {
		return cfg, nil, err
	}
	if cfg.Cado.URL == "" {
		return cfg, nil, exitWith(exitConfig, errors.New("cado: no [cado] is configured"))
	}
	client, err := cado.New(cfg.Cado, version, a.commandLogger(cfg))
	return cfg, client, err
}

// withCado has f speak to Cado.
func (a *app) withCado(ctx context.Context, f func(*cado.Client) error) error {
	_, client, err := a.cado(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	return f(client)
}

func (a *app) cadoProjectsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "projects",
		Short: "List the projects that the key may see",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withCado(cmd.Context(), func(c *cado.Client) error {
				list, err := c.Projects(cmd.Context(), "")
				if err != nil {
					return err
				}
				return tabled(a, list, func(p cado.Project) []string { return []string{p.ID, p.Name, p.Status, stampOrDash(p.Created)} })
			})
		},
	}
}

// tabled prints a list, as a table or as JSON lines.
func tabled[T any](a *app, list []T, row func(T) []string) error {
	table := tabwriter.NewWriter(a.stdout, 0, 8, 2, ' ', 0)
	for _, one := range list {
		if a.json {
			if err := a.encode(one); err != nil {
				return err
			}
			continue
		}
		for i, cell := range row(one) {
			if i > 0 {
				fmt.Fprint(table, "\t")
			}
			fmt.Fprint(table, quote.Text(orDash(cell)))
		}
		fmt.Fprintln(table)
	}
	return table.Flush()
}

func stampOrDash(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return stamp(t)
}

func (a *app) cadoPipelineCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "pipeline ID",
		Short: "Say how far an import is",
		Args:  exactlyOne("number of a pipeline"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withCado(cmd.Context(), func(c *cado.Client) error {
				p, err := c.Pipeline(cmd.Context(), args[0], "")
				if err != nil {
					return err
				}
				if a.json {
					return a.encode(p)
				}
				_, err = fmt.Fprintf(a.stdout, "pipeline %s: %s, %d of %d done, %s %s\n", p.ID, p.State, p.Done, p.Total, orDash(p.Evidence), quote.Text(p.Text))
				return err
			})
		},
	}
}

// projectOf returns the project that a person names, by its name or its number.
func projectOf(ctx context.Context, c *cado.Client, name string) (cado.Project, error) {
	list, err := c.Projects(ctx, name)
	if err != nil {
		return cado.Project{}, err
	}
	if len(list) > 0 {
		return list[0], nil
	}
	if _, err := strconv.ParseInt(name, 10, 64); err == nil {
		return cado.Project{ID: name, Name: name}, nil
	}
	return cado.Project{}, fmt.Errorf("cado: there is no project %s", quote.Path(name))
}

func (a *app) cadoTimelineCommand() *cobra.Command {
	var project string
	var from, to string
	limit := 100
	cmd := &cobra.Command{
		Use:     "timeline QUERY",
		Short:   "Search a project's timeline",
		Example: `  capagent cado timeline --project INC-1 "203.0.113.66"`,
		Args:    exactlyOne("query"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if project == "" {
				return usageError("cado timeline needs --project")
			}
			q := cado.Question{Text: args[0], Limit: limit}
			for text, at := range map[*string]*time.Time{&from: &q.From, &to: &q.To} {
				if *text == "" {
					continue
				}
				t, err := time.Parse(time.RFC3339, *text)
				if err != nil {
					return usageError("%s: expected a time such as 2026-03-10T09:00:00Z", quote.Path(*text))
				}
				*at = t
			}
			return a.withCado(cmd.Context(), func(c *cado.Client) error {
				p, err := projectOf(cmd.Context(), c, project)
				if err != nil {
					return err
				}
				q.Project = p.ID
				list, more, err := c.Timeline(cmd.Context(), q)
				if err != nil {
					return err
				}
				if err := tabled(a, list, func(e cado.Event) []string { return []string{stampOrDash(e.Time), e.Text, e.Source} }); err != nil {
					return err
				}
				if more {
					a.say("there are more; --limit shows more than %d", limit)
				}
				return nil
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&project, "project", "", "the project, by `NAME` or number")
	f.StringVar(&from, "from", "", "events from this `TIME` on")
	f.StringVar(&to, "to", "", "events until this `TIME`")
	f.IntVar(&limit, "limit", limit, "at most so `MANY` events")
	return cmd
}

func (a *app) cadoEC2Command() *cobra.Command {
	var project, region string
	cmd := &cobra.Command{Use: "ec2", Short: "List or acquire EC2 machines"}
	list := &cobra.Command{
		Use:   "ls",
		Short: "List the EC2 machines that the platform sees in a region",
		Args:  noArgs, Aliases: []string{"list"},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withCado(cmd.Context(), func(c *cado.Client) error {
				id, err := optionalProject(cmd.Context(), c, project)
				if err != nil {
					return err
				}
				machines, err := c.Instances(cmd.Context(), id, region)
				if err != nil {
					return err
				}
				return tabled(a, machines, func(i cado.Instance) []string { return []string{i.ID, i.Name, i.State, i.Type, i.Zone} })
			})
		},
	}
	acquire := &cobra.Command{
		Use:   "acquire INSTANCE",
		Short: "Have the platform acquire an EC2 machine into a project",
		Args:  exactlyOne("id of a machine"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.acquire(cmd.Context(), project, args[0], region)
		},
	}
	for _, c := range []*cobra.Command{list, acquire} {
		c.Flags().StringVar(&project, "project", "", "the project, by `NAME` or number")
		c.Flags().StringVar(&region, "region", "", "the `REGION`; that of [cado] by default")
	}
	cmd.AddCommand(list, acquire)
	return cmd
}

func optionalProject(ctx context.Context, c *cado.Client, name string) (string, error) {
	if name == "" {
		return "", nil
	}
	p, err := projectOf(ctx, c, name)
	return p.ID, err
}

func (a *app) acquire(ctx context.Context, project, instance, region string) error {
	if project == "" {
		return usageError("cado ec2 acquire needs --project")
	}
	cfg, client, err := a.cado(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	p, err := projectOf(ctx, client, project)
	if err != nil {
		return err
	}
	if region == "" {
		region = cfg.Cado.Region
	}
	if cfg.Cado.DryRun {
		_, err = fmt.Fprintf(a.stdout, "would acquire %s into %s; nothing was done: dry_run is true\n", quote.Path(instance), quote.Path(p.Name))
		return err
	}
	pipeline, err := client.AcquireEC2(ctx, p.ID, instance, region)
	if err != nil {
		return err
	}
	if a.json {
		return a.encode(map[string]string{"project": p.Name, "instance": instance, "pipeline": pipeline})
	}
	_, err = fmt.Fprintf(a.stdout, "pipeline %s acquires %s; follow it: capagent cado pipeline %s\n", pipeline, quote.Path(instance), pipeline)
	return err
}

func (a *app) cadoImportCommand() *cobra.Command {
	var caseName, project string
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Import a file into a project, and follow it to its end",
		Long: `Import a capture file into a project of Cado, which is made if there is none of that
name, and follow the platform's work on it. An import that is interrupted goes on where
it was; none is done twice.`,
		Example: "  capagent cado import trace.pcap --project INC-1",
		Args:    exactlyOne("file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.cadoImport(cmd.Context(), args[0], caseName, project)
		},
	}
	cmd.Flags().StringVar(&project, "project", "", "the project's `NAME`, instead of that of [cado] project")
	cmd.Flags().StringVar(&caseName, "case", "", "the `CASE` for the templates of [cado]")
	return cmd
}

func (a *app) cadoImport(ctx context.Context, path, caseName, project string) error {
	cfg, err := a.fullConfig(ctx)
	if err != nil {
		return err
	}
	if cfg.Cado.URL == "" {
		return exitWith(exitConfig, errors.New("cado: no [cado] is configured"))
	}
	if path, err = filepath.Abs(path); err != nil {
		return err
	}
	f := service.CadoFile{
		Config: cfg, Version: version, Log: a.commandLogger(cfg), Case: caseName, Project: project,
		Told: func(text string) { a.say("%s", quote.Text(text)) },
	}
	p, plan, err := f.Import(ctx, path)
	if err != nil {
		return err
	}
	if a.json {
		return a.encode(map[string]any{"project": p.Project, "state": p.State, "text": p.Text, "link": p.Link, "pipeline": p.Capture.Pipeline, "plan": plan})
	}
	for _, line := range plan {
		fmt.Fprintln(a.stdout, quote.Text(line))
	}
	if plan != nil {
		a.say("nothing was done: dry_run is true")
		return nil
	}
	_, err = fmt.Fprintf(a.stdout, "%s: project %s, pipeline %s: %s\n", quote.Path(path), quote.Text(p.Project.Name), p.Capture.Pipeline, quote.Text(p.Text))
	return err
}
