package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/rs/zerolog"

	"capagent/enrich/cado"
	"capagent/internal/failure"
	"capagent/internal/ledger"
	"capagent/internal/safefile"
)

// CadoFile imports a file that a person names, until the platform has ended its work
// on it. It may be interrupted and called again: how far it came lies in the state
// directory, under the content's SHA-256. With DryRun it returns what would be done.
type CadoFile struct {
	Config  Config
	Version string
	Log     zerolog.Logger
	Case    string // for the templates
	Project string // instead of that of the configuration
	Told    func(text string)
}

// Import imports the file at path.
func (f CadoFile) Import(ctx context.Context, path string) (p cado.Progress, plan []string, err error) {
	file, _, err := safefile.Open(path)
	if err != nil {
		return p, nil, fmt.Errorf("cado import: %w", safefile.Cause(err))
	}
	looked, err := (&InspectConfig{}).Look(ctx, file, nil)
	err = errors.Join(err, file.Close())
	if err != nil {
		return p, nil, fmt.Errorf("cado import: %w", err)
	}
	a := &Agent{Config: f.Config, log: f.Log}
	if f.Project != "" {
		a.Config.Cado.Project = f.Project
	}
	l, err := ledger.Open(ctx, f.Config.LedgerPath(), ledger.Options{Log: f.Log})
	if err != nil {
		return p, nil, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	a.Ledger = l
	i, err := newImporting(a, f.Version)
	if err != nil {
		return p, nil, err
	}
	defer i.Close()
	e, err := a.evidence(ctx, ledger.Capture{Path: path, Name: filepath.Base(path), Case: f.Case, Inspection: looked.Inspection, Created: time.Now()})
	if err != nil {
		return p, nil, err
	}
	if a.Config.Cado.DryRun {
		plan, err = i.importer.Plan(ctx, e)
		return p, plan, err
	}
	state := filepath.Join(f.Config.StateDir(), "cado", looked.SHA256+".json")
	if p, err = readProgress(state); err != nil {
		return p, nil, err
	}
	if p.State == cado.Failed || p.State == cado.Cancelled {
		p = p.Again()
	}
	p, err = f.follow(ctx, i, e, p, state)
	return p, nil, err
}

// follow goes on until the platform has ended its work.
func (f CadoFile) follow(ctx context.Context, i *importing, e cado.Evidence, p cado.Progress, state string) (cado.Progress, error) {
	said := ""
	for {
		var err error
		p, err = i.importer.Import(ctx, e, p, func(p cado.Progress) error {
			data, err := json.Marshal(p)
			if err != nil {
				return err
			}
			return safefile.Write(state, data)
		})
		if text := imported(p); f.Told != nil && text != said {
			said = text
			f.Told(text)
		}
		if err == nil || failure.As(err).Class != ClassRunning {
			return p, err
		}
		if err := wait(ctx, max(failure.As(err).RetryAfter, time.Second)); err != nil {
			return p, err
		}
	}
}

func readProgress(path string) (p cado.Progress, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return p, err
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err == nil && len(data) <= ledger.MaxProgress {
		err = json.Unmarshal(data, &p)
	}
	if err != nil {
		err = fmt.Errorf("%s: how far the import came can't be read: %w", path, err)
	}
	return p, err
}
