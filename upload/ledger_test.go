package upload

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"capagent/internal/failure"
	"capagent/internal/ledger"
	"capagent/upload/cloudsharktest"
)

// TestWithTheLedger goes over the real ledger and over a restart: parts and
// sessions come back as they were, and the token is in none of its files.
func TestWithTheLedger(t *testing.T) {
	r := newRig(t, func(_ *cloudsharktest.Options, c *Config) { c.MaxPackets = 100 })
	path := filepath.Join(t.TempDir(), "state", "ledger.db")
	data := pcapng(250, 60)
	c := capture(t, data)

	l, err := ledger.Open(t.Context(), path, ledger.Options{})
	if err != nil {
		t.Fatal(err)
	}
	rows, err := l.Register(t.Context(), []ledger.Found{{
		Source: c.Source, Path: c.Path, Name: c.Name, Destination: r.step.opts.Config.Destination(), Inspection: c.Inspection, State: ledger.Queued,
	}})
	if err != nil {
		t.Fatal(err)
	}
	c = rows[0].Capture
	r.step.opts.Ledger = l
	r.SetFault(cloudsharktest.Fault{Name: "echo-token", Filename: "part02"})
	_, err = r.step.Run(t.Context(), c)
	wants(t, err, ClassServerError, failure.Retry, "***")
	planned, err := l.Parts(t.Context(), c.ID)
	if err != nil || len(planned) != 3 || planned[0].SessionID == "" || planned[1].SessionID != "" || len(planned[1].Prefix) == 0 {
		t.Fatalf("%+v, %v", planned, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}

	if l, err = ledger.Open(t.Context(), path, ledger.Options{}); err != nil {
		t.Fatal(err)
	}
	r.ClearFaults()
	r.restart(t, r.step.opts.Config)
	r.step.opts.Ledger = l
	result, err := r.step.Run(t.Context(), c)
	if err != nil || result.SessionID != planned[0].SessionID {
		t.Fatalf("%+v, %v", result, err)
	}
	r.checkParts(t, data, 3, 250)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(filepath.Dir(path), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if bytes.Contains(bytes.ToLower(content), bytes.ToLower([]byte(canary))) {
			t.Errorf("the token is in %s", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
