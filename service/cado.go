package service

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"capagent/enrich/cado"
	"capagent/enrich/verdict"
	"capagent/internal/failure"
	"capagent/internal/ledger"
	"capagent/internal/safefile"
)

// importing brings captures into projects of Cado.
type importing struct {
	a        *Agent
	client   *cado.Client
	importer *cado.Importer
}

func newImporting(a *Agent, version string) (*importing, error) {
	cc := a.Config.Cado
	cc.Connecting = a.Config.CloudShark.Connecting
	client, err := cado.New(cc, version, a.log)
	if err != nil {
		return nil, err
	}
	importer, err := cado.NewImporter(context.Background(), client)
	if err != nil {
		client.Close()
		return nil, err
	}
	return &importing{a, client, importer}, nil
}

func (*importing) Name() string { return deliverCado }

// Close drops idle connections.
func (i *importing) Close() {
	i.importer.Close()
	i.client.Close()
}

func (i *importing) Wants() (all, flagged bool) {
	return i.a.Config.Cado.Import == cado.All, i.a.Config.Cado.Import == cado.Flagged
}

// Deliver goes on with an import. Of equal contents one is imported.
func (i *importing) Deliver(ctx context.Context, c ledger.Capture, d *ledger.Delivery, save func() error) error {
	if c.DuplicateOf != 0 {
		d.Note = fmt.Sprintf("same content as capture %d", c.DuplicateOf)
		return errNotWanted
	}
	e, err := i.a.evidence(ctx, c)
	if err != nil {
		return err
	}
	if i.a.Config.Cado.DryRun {
		lines, err := i.importer.Plan(ctx, e)
		if err == nil {
			d.Note = "dry_run: " + strings.Join(lines, "; ")
			err = errNotWanted
		}
		return err
	}
	var p cado.Progress
	if len(d.Progress) > 0 {
		if err := json.Unmarshal(d.Progress, &p); err != nil {
			return &failure.Error{Kind: failure.Permanent, Class: "progress", Err: fmt.Errorf("how far the import came can't be read: %w", err)}
		}
	}
	if p.State == cado.Failed || p.State == cado.Cancelled {
		p = p.Again()
	}
	keep := func(p cado.Progress) (err error) {
		d.Link, d.Note = p.Link, imported(p)
		d.Progress, err = json.Marshal(p)
		return err
	}
	p, err = i.importer.Import(ctx, e, p, func(p cado.Progress) error {
		if err := keep(p); err != nil {
			return err
		}
		return save()
	})
	return errors.Join(err, keep(p))
}

// imported says how far an import has come.
func imported(p cado.Progress) string {
	text := ""
	if p.Project.Name != "" {
		text = "project " + p.Project.Name
	}
	if p.Capture.Pipeline != "" {
		text += ", pipeline " + p.Capture.Pipeline
	}
	if p.Text != "" {
		text += ": " + p.Text
	}
	return strings.TrimPrefix(text, ", ")
}

// evidence is a capture as Cado is given it, with a log of what is known of it: what
// becomes of a capture file is the platform's matter, lines of a log are surely on
// its timeline (contracts/cado.md 5.4).
func (a *Agent) evidence(ctx context.Context, c ledger.Capture) (cado.Evidence, error) {
	at := c.First
	if at.IsZero() {
		at = c.Created
	}
	values := cado.Values{Agent: a.Config.Agent.Name, Case: c.Case, Time: at}
	name := c.SHA256[:min(len(c.SHA256), 12)] + "-" + filepath.Base(c.Name)
	e := cado.Evidence{
		Name: c.Name, Size: c.Size, Project: a.Config.Cado.ProjectName(values), Key: a.Config.Cado.Key(values, name),
		Open: func() (cado.Content, error) {
			f, _, err := safefile.Open(c.Path)
			if errors.Is(err, fs.ErrNotExist) {
				err = &failure.Error{Kind: failure.Permanent, Class: "unreadable", Err: fmt.Errorf("the file is gone: %w", err)}
			}
			return f, err
		},
	}
	if sum, err := hex.DecodeString(c.SHA256); err != nil || copy(e.SHA256[:], sum) != len(e.SHA256) {
		return e, &failure.Error{Kind: failure.Permanent, Class: "no_digest", Err: errors.New("the capture has no SHA-256")}
	}
	rows, err := a.Ledger.Findings(ctx, c.ID)
	if err != nil {
		return e, err
	}
	begins := fmt.Sprintf("capture %s begins, %d packets", c.Name, c.Packets)
	if c.SessionURL != "" {
		begins += ", session " + c.SessionURL
	}
	e.Lines = append(e.Lines, cado.Line{Time: c.First, Text: begins})
	for _, row := range rows {
		if f, ok := asFinding(row); ok {
			e.Lines = append(e.Lines, cado.Line{Time: f.Indicator.FirstTime(), Text: "finding " + verdict.Annotation(f)})
		}
	}
	e.Lines = append(e.Lines, cado.Line{Time: c.Last, Text: fmt.Sprintf("capture %s ends", c.Name)})
	return e, nil
}
