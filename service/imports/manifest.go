package imports

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"capagent/internal/quote"
	"capagent/service"
)

// ManifestFormats are the file name endings that WriteManifest knows.
var ManifestFormats = []string{".csv", ".json", ".sha256"}

// WriteManifest writes what became of every file to path, in the format that
// its ending names: .csv and .json hold the whole account, .sha256 is what
// `sha256sum -c` reads. The file appears whole or not at all.
func WriteManifest(path string, entries []Entry) (err error) {
	var write func(io.Writer, []Entry) error
	switch strings.ToLower(filepath.Ext(path)) {
	case ".csv":
		write = writeCSV
	case ".json":
		write = writeJSON
	case ".sha256":
		write = writeSums
	default:
		return fmt.Errorf("manifest %q: the name must end in %s", path, strings.Join(ManifestFormats, ", "))
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".manifest-*")
	if err != nil {
		return fmt.Errorf("manifest %q: %w", path, err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
			err = fmt.Errorf("manifest %q: %w", path, err)
		}
	}()
	if err := write(f, entries); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

var columns = []string{
	"path", "size", "sha256", "sha1", "packets", "first", "last",
	"session_id", "session_url", "state", "reason", "case", "duplicate_of",
}

// writeCSV writes a header and a line per file. A path that is not plain text
// stands there as a quoted string, told by its leading double quote.
func writeCSV(w io.Writer, entries []Entry) error {
	out := csv.NewWriter(w)
	_ = out.Write(columns) // Error reports it below
	for _, e := range entries {
		_ = out.Write([]string{
			quote.Path(e.Path), strconv.FormatInt(e.Size, 10), e.SHA256, e.SHA1, strconv.FormatInt(e.Packets, 10),
			stamp(e.First), stamp(e.Last), e.each(func(p service.PartView) *string { return p.SessionID }),
			e.each(func(p service.PartView) *string { return p.SessionURL }), string(e.State), e.Why(), e.Case, id(e.DuplicateOf),
		})
	}
	out.Flush()
	return out.Error()
}

type manifest struct {
	SchemaVersion int            `json:"schema_version"`
	Files         []manifestFile `json:"files"`
}

type manifestFile struct {
	service.View
	Reason *string `json:"reason"`
}

func writeJSON(w io.Writer, entries []Entry) error {
	m := manifest{SchemaVersion: 1, Files: []manifestFile{}}
	for _, e := range entries {
		f := manifestFile{View: e.View()}
		if r := e.Why(); r != "" {
			f.Reason = &r
		}
		m.Files = append(m.Files, f)
	}
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	return out.Encode(m)
}

// writeSums writes what GNU sha256sum writes, with its escapes: a leading
// backslash says that the name has some.
func writeSums(w io.Writer, entries []Entry) error {
	escape := strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\r", `\r`)
	for _, e := range entries {
		if e.SHA256 == "" {
			continue
		}
		name, mark := escape.Replace(e.Path), ""
		if name != e.Path {
			mark = `\`
		}
		if _, err := fmt.Fprintf(w, "%s%s  %s\n", mark, e.SHA256, name); err != nil {
			return err
		}
	}
	return nil
}

// View shows the entry as --json does, its failure included.
func (e Entry) View() service.View {
	v := service.NewView(e.Capture).WithParts(e.Parts)
	if e.Known != nil {
		v.Findings = e.Known
	}
	if e.Failure != nil {
		text := e.Failure.Error()
		v.Error = &text
	}
	return v
}

// each joins what get returns of all parts, by spaces; of a capture in one piece
// it is that one's.
func (e Entry) each(get func(service.PartView) *string) string {
	parts := e.View().Parts
	if len(parts) == 0 {
		parts = []service.PartView{{SessionID: &e.SessionID, SessionURL: &e.SessionURL}}
	}
	var all []string
	for _, p := range parts {
		if text := get(p); text != nil && *text != "" {
			all = append(all, *text)
		}
	}
	return strings.Join(all, " ")
}

// Why says why a file has no session, or not one of its own; "" when it has.
func (e Entry) Why() string {
	switch {
	case e.Failure != nil:
		return e.Failure.Error()
	case e.DuplicateOf != 0:
		return fmt.Sprintf("same content as capture %d", e.DuplicateOf)
	default:
		return e.Reason
	}
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

func id(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}
