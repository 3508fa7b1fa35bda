package bundle_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"capagent/internal/audit"
	"capagent/internal/config"
	"capagent/internal/ledger"
	"capagent/internal/secret"
	"capagent/service"
	"capagent/service/bundle"
	"capagent/service/control"
	"capagent/service/doctor"
)

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// unpack returns the files of a bundle, and that nobody but its owner can read them.
func unpack(t *testing.T, packed []byte) map[string]string {
	t.Helper()
	zipped, err := gzip.NewReader(bytes.NewReader(packed))
	ok(t, err)
	files := map[string]string{}
	for in := tar.NewReader(zipped); ; {
		head, err := in.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		ok(t, err)
		text, err := io.ReadAll(in)
		ok(t, err)
		if head.Mode != 0o600 {
			t.Errorf("%s has mode %o", head.Name, head.Mode)
		}
		files[strings.TrimPrefix(head.Name, "capagent-support/")] = string(text)
	}
}

func write(t *testing.T, o bundle.Options) map[string]string {
	t.Helper()
	var out bytes.Buffer
	names, err := bundle.Write(t.Context(), &out, o)
	ok(t, err)
	files := unpack(t, out.Bytes())
	if len(names) != len(files) {
		t.Errorf("%v were told, %d files are in it", names, len(files))
	}
	return files
}

// Every key that can hold a secret has a canary, which then stands in whatever text
// others may have put it into. None may come out, however it is written.
func TestNoSecretComesOut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	defaults := service.DefaultConfig()
	var toml strings.Builder
	var canaries []string
	for _, key := range config.Keys(&defaults) {
		if !key.Secret || strings.HasSuffix(key.Path, "_command") || strings.HasSuffix(key.Path, "_file") {
			continue
		}
		table, name, _ := strings.Cut(key.Path, ".")
		canary := fmt.Sprintf("%032x", uint64(0xc0ffee000)+uint64(len(canaries)))
		canaries = append(canaries, canary)
		fmt.Fprintf(&toml, "%s.%s = %q\n", table, name, canary)
	}
	if len(canaries) < 6 {
		t.Fatalf("only %d secret keys: %s", len(canaries), &toml)
	}
	file := filepath.Join(dir, "agent.toml")
	ok(t, os.WriteFile(file, []byte(toml.String()), 0o600))
	cfg, _ := service.LoadConfig(t.Context(), config.Options{Path: file}, dir, true)
	redactor := secret.NewRedactor(cfg.Loaded.Secrets()...)
	all := strings.Join(canaries, " ")
	said := all + " " + url.PathEscape(all) + " " + base64.StdEncoding.EncodeToString([]byte(all)) + " " + strings.ToUpper(all)
	log := filepath.Join(dir, "agent.log")
	ok(t, os.WriteFile(log, fmt.Appendf(nil, "{\"message\":%q,\"path\":%q}\n%s\n", said, said, said), 0o600))
	o := bundle.Options{
		Version: "1.0.0", StateDir: dir, Values: cfg.Loaded.Effective(), Errors: []string{said}, Warnings: []string{said},
		Doctor:      doctor.Report{Checks: []doctor.Check{{ID: "x", Title: "x", Result: doctor.Fail, Detail: said, Fix: said}}},
		StatusError: said, LogFiles: []string{log}, Redactor: redactor, Now: time.Now(),
	}
	for _, names := range []bool{false, true} {
		o.WithNames = names
		for name, text := range write(t, o) {
			for _, canary := range canaries {
				if strings.Contains(strings.ToLower(text), canary) || strings.Contains(text, base64.StdEncoding.EncodeToString([]byte(canary))[:40]) {
					t.Errorf("%s (names: %v) holds %s", name, names, canary)
				}
			}
		}
	}
}

// What a capture is called, and what is in it, is nobody's business but its owner's.
func TestNoNameComesOutUnlessAsked(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, err := ledger.Open(t.Context(), filepath.Join(dir, "ledger.db"), ledger.Options{})
	ok(t, err)
	defer func() { _ = l.Close() }()
	const path, where = "/evidence/Case Falcon/quarterly report.pcap", "evil.example.net"
	made, err := l.Register(t.Context(), []ledger.Found{{
		Source: "import", Path: path, Name: "quarterly report.pcap", Case: "Falcon", Destination: "https://cs.example", State: ledger.Queued,
		Inspection: ledger.Inspection{SHA256: strings.Repeat("ab", 32)},
	}})
	ok(t, err)
	_, err = l.Begin(t.Context(), made[0].ID, "cloudshark")
	ok(t, err)
	ok(t, l.Fail(t.Context(), made[0].ID, "cloudshark", ledger.StepFailure{
		Class: "unreadable", Text: "upload quarterly report.pcap: open " + path + ": permission denied; saw 198.51.100.23 and " + where, Permanent: true,
	}))
	ok(t, audit.New(l, audit.Options{Dir: dir, Host: "falcon-sensor", Version: "1.0.0"}).Drain(t.Context()))
	ok(t, l.Note(t.Context(), "missing", map[string]any{"path": path})) // waits in the ledger
	log := filepath.Join(dir, "agent.log")
	ok(t, os.WriteFile(log, fmt.Appendf(nil, "%s\n%s\n%s\n",
		`{"level":"warn","class":"disk_full","path":"`+path+`","indicator":"`+where+`","message":"not uploaded","MESSAGE":[113,117,97,114]}`,
		`{"level":"info","message":"open /somewhere/else/Falcon plans.pcap: permission denied"}`,
		`12:00 WRN seen: `+where+` in quarterly report.pcap`), 0o600))
	hint := "see " + where
	o := bundle.Options{
		Version: "1.0.0", StateDir: dir, Ledger: l, LogFiles: []string{log}, Redactor: secret.NewRedactor(), Now: time.Now(),
		Values: []config.Row{{Key: "cloudtrax.block_on", Value: `["` + where + `"]`}, {Key: "log.level", Value: `"info"`}},
		Status: &control.Status{Version: "1.0.0", Agent: &control.Agent{
			Uploading: []control.Uploading{{ID: 1, Name: "quarterly report.pcap"}}, Text: "1 uploading",
			Problems: []control.Problem{{Class: "disk_full", Text: "can't write " + path, Hint: &hint}},
			Blocked:  []control.Blocked{{MAC: "00:00:5e:00:53:01", Name: "falcon-laptop", Reason: where}},
		}},
		Doctor: doctor.Report{Checks: []doctor.Check{{ID: "queue", Title: "queue", Result: doctor.Warn, Detail: path, Fix: "look", Names: true}}},
	}
	names := []string{"quarterly", "alcon", "evidence", where, "198.51.100.23", strings.Repeat("ab", 32), "00:00:5e:00:53:01", "113"}
	files := write(t, o)
	for file, text := range files {
		for _, name := range names {
			if strings.Contains(text, name) {
				t.Errorf("%s holds %q:\n%s", file, name, text)
			}
		}
	}
	for file, want := range map[string]string{
		"events.jsonl": `"class":"unreadable"`, "log.jsonl": "permission denied", "status.json": `"class": "disk_full"`,
		"config.json": `"value": "\"info\""`, "counts.json": `"failed"`, "README.txt": "(hidden)",
	} {
		if !strings.Contains(files[file], want) {
			t.Errorf("%s has no %s:\n%s", file, want, files[file])
		}
	}
	if n := strings.Count(files["events.jsonl"], "\n"); n < 4 || !strings.Contains(files["events.jsonl"], `"event":"missing"`) {
		t.Errorf("%d events:\n%s", n, files["events.jsonl"])
	}
	o.WithNames = true
	for file, name := range map[string]string{"events.jsonl": "quarterly report", "log.jsonl": where, "status.json": "falcon-laptop", "config.json": where} {
		if text := write(t, o)[file]; !strings.Contains(text, name) {
			t.Errorf("with names %s has no %q:\n%s", file, name, text)
		}
	}
}

// A bundle is made when things are broken.
func TestNothingIsThere(t *testing.T) {
	t.Parallel()
	files := write(t, bundle.Options{Version: "1.0.0", StateDir: filepath.Join(t.TempDir(), "nowhere"), StatusError: "no", Redactor: secret.NewRedactor(), Now: time.Now()})
	for _, want := range []string{"events.jsonl    not here: nothing was found", "status.json     not here: no", "counts.json     not here"} {
		if !strings.Contains(files["README.txt"], want) {
			t.Errorf("no %q in:\n%s", want, files["README.txt"])
		}
	}
}

func TestTheLastThousandEvents(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	line := func(n int) string { return fmt.Sprintf(`{"seq":%d,"event":"gap","data":{}}`, n) + "\n" }
	var old, current strings.Builder
	for n := range 900 {
		old.WriteString(line(n + 1))
	}
	for n := range 200 {
		current.WriteString(line(n + 901))
	}
	ok(t, os.WriteFile(filepath.Join(dir, "audit-000000000001.log"), []byte(old.String()), 0o600))
	ok(t, os.WriteFile(filepath.Join(dir, "audit.log"), []byte(current.String()), 0o600))
	text := write(t, bundle.Options{StateDir: dir, Redactor: secret.NewRedactor(), Now: time.Now()})["events.jsonl"]
	if n := strings.Count(text, "\n"); n != 1000 || !strings.Contains(text, `"seq":1100`) || strings.Contains(text, `"seq":100}`) {
		t.Errorf("%d lines", n)
	}
}
