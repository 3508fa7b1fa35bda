// Package bundle writes what a person who helps needs to know of an agent, as one
// archive. Every word of it goes through a secret.Redactor; nothing of packets goes
// in and, unless the user asks for them, no indicator and no name of a captured file.
package bundle

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"capagent/internal/config"
	"capagent/internal/ledger"
	"capagent/internal/paths"
	"capagent/internal/secret"
	"capagent/service/control"
	"capagent/service/doctor"
)

// Options say what is known.
type Options struct {
	Version  string
	Places   paths.Paths
	StateDir string
	Errors   []string     // of the configuration
	Warnings []string     // likewise
	Values   []config.Row // the effective configuration
	Doctor   doctor.Report
	Status   *control.Status // nil where it is not known, and then StatusError says why
	// StatusError is a line for people.
	StatusError string
	Ledger      *ledger.Ledger // nil: there is none, or it can't be read
	LogFiles    []string       // files that the agent may have logged to
	Unit        string         // of which the journal is asked
	System      string         // name and release of the kernel
	WithNames   bool
	Redactor    *secret.Redactor // of every secret that is known
	Now         time.Time
}

// bundle is one archive that is being written.
type bundle struct {
	Options
	hide  *hider
	files []file
}

type file struct {
	name, about string
	text        []byte
}

// Write writes the archive to w and returns the names of what is in it. What can't be
// had is missing, and the README says why: a bundle is made when things are broken.
func Write(ctx context.Context, w io.Writer, o Options) ([]string, error) {
	b := &bundle{Options: o, hide: &hider{names: o.WithNames}}
	b.hide.learn(ctx, o.Ledger)
	b.object("version.json", "the program", b.version())
	b.object("paths.json", "where its files are", b.Places)
	b.object("system.json", "the machine", b.system())
	b.object("config.json", "the configuration in effect; secrets are ***", b.configuration())
	b.object("doctor.json", "what `capagent doctor` finds", b.report())
	if b.Status != nil {
		b.object("status.json", "what `capagent status --json` says", b.status(*b.Status))
	} else {
		b.missing("status.json", b.StatusError)
	}
	b.counts(ctx)
	b.events(ctx)
	b.logs(ctx)
	b.missing("goroutines.txt", "the agent offers no profile")
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return b.archive(w)
}

func (b *bundle) add(name, about string, text []byte) {
	b.files = append(b.files, file{name, about, text})
}

func (b *bundle) missing(name, why string) {
	b.files = append(b.files, file{name: name, about: "not here: " + why})
}

func (b *bundle) object(name, about string, v any) {
	var text bytes.Buffer
	out := json.NewEncoder(&text)
	out.SetEscapeHTML(false)
	out.SetIndent("", "  ")
	if err := out.Encode(v); err != nil {
		b.missing(name, err.Error())
		return
	}
	b.add(name, about, text.Bytes())
}

// archive packs what was collected, behind a README that tells of it.
func (b *bundle) archive(w io.Writer) ([]string, error) {
	const top = "capagent-support"
	zipped := gzip.NewWriter(w)
	out := tar.NewWriter(zipped)
	var names []string
	for _, f := range slices.Concat([]file{{name: "README.txt", text: b.readme()}}, b.files) {
		if f.text == nil {
			continue
		}
		text := []byte(b.Redactor.String(string(f.text)))
		head := tar.Header{Name: path.Join(top, f.name), Mode: 0o600, Size: int64(len(text)), ModTime: b.Now, Typeflag: tar.TypeReg}
		if err := out.WriteHeader(&head); err != nil {
			return nil, err
		}
		if _, err := out.Write(text); err != nil {
			return nil, err
		}
		names = append(names, f.name)
	}
	if err := out.Close(); err != nil {
		return nil, err
	}
	return names, zipped.Close()
}

func (b *bundle) readme() []byte {
	var s strings.Builder
	fmt.Fprintf(&s, "capagent %s, %s\n\nMade by `capagent support-bundle` for who helps. Read it before you give it away.\n\n", b.Version, b.Now.UTC().Format(time.RFC3339))
	for _, f := range b.files {
		fmt.Fprintf(&s, "%-14s  %s\n", f.name, f.about)
	}
	s.WriteString("\nSecrets are ***. No packets are in here.\n")
	if b.WithNames {
		s.WriteString("It was made with --with-names: names of captured files, sessions, cases and machines,\nand indicators, are in here, and texts are as they were written.\n")
	} else {
		s.WriteString("Names of captured files, sessions, cases and machines, and indicators, are (hidden), and\nin texts what is known to be one or looks like one: paths, addresses, hosts, digests.\nThe configuration is as it is: it names servers, interfaces, and watched folders.\n")
	}
	return []byte(s.String())
}
