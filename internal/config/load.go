// Package config loads a TOML file strictly into a struct and says where every
// value came from. Order: what the struct holds already (the defaults), the
// file, the environment, flags.
//
// Limits: a file is regular, UTF-8 (a byte order mark and CRLF are accepted)
// and at most 1 MiB; keys have at most 16 parts. Everything wrong is reported
// at once, one line each, with file, line, column and key; no error ever holds
// a value or the text around it, because a secret may have been pasted there.
//
// Structs use toml tags: strings, numbers, booleans, types that unmarshal text
// (Duration, Size, Rate, secret.Secret), lists of these, tables and lists of
// tables. Keys match exactly. go-toml parses and validates; the values are
// assigned here, because its decoder stops at the first wrong type and quotes
// values in its messages.
package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"
	"runtime"
	"strings"

	"capagent/internal/secret"

	"github.com/pelletier/go-toml/v2/unstable"
)

// maxFile bounds the configuration file.
const maxFile = 1 << 20

// Options say what to load.
type Options struct {
	// Path of the file; empty means none. A file that is absent is an error
	// that wraps fs.ErrNotExist.
	Path string
	// Env is the environment as os.Environ gives it; nil means none.
	Env []string
	// EnvPrefix begins the names of variables: with CAPAGENT, the variable
	// CAPAGENT_LOG_LEVEL sets log.level. Empty means that none does. A variable
	// that is empty counts as not set. Lists are separated by commas.
	EnvPrefix string
	// Overrides are applied last, in order.
	Overrides []Override
}

// Override is a value from the command line.
type Override struct {
	Key   string // "cloudshark.max_size"
	Value string // as text; lists separated by commas
	Flag  string // what the user wrote, for messages: "--max-size"
}

// Loaded knows the origin of every key that Load has set.
type Loaded struct {
	// Path is the file as it was given, empty when there was none.
	Path string
	// Warnings are for the user, one line each, with their place.
	Warnings []string

	root    *node
	dst     reflect.Value
	lookup  func(string) (string, bool) // the environment; a function, so that printing shows none of it
	origins map[string]Origin           // by "watch[0].path"; tables' headers too
	errs    []error
	// allForms lets an example show all forms of a secret at once.
	allForms bool
}

// Load fills the struct that dst points to. Its error is an Errors (sorted, one
// line each) or concerns the file as a whole. With an Errors the *Loaded is
// usable too: everything that was right has been set, so that a caller may look
// for more mistakes and Join them.
func Load(opts Options, dst any) (*Loaded, error) {
	v := reflect.ValueOf(dst)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
		panic("config: Load needs a pointer to a struct")
	}
	l := &Loaded{
		Path: opts.Path, dst: v.Elem(), root: schemaOf(v.Elem().Type()),
		origins: map[string]Origin{},
	}
	env := map[string]string{}
	l.lookup = func(name string) (string, bool) { value, ok := env[name]; return value, ok }
	for _, pair := range opts.Env {
		if name, value, ok := strings.Cut(pair, "="); ok {
			if runtime.GOOS == "windows" {
				name = strings.ToUpper(name)
			}
			env[name] = value
		}
	}
	if opts.Path != "" {
		text, mode, err := readFile(opts.Path)
		if err != nil {
			return nil, err
		}
		l.file(text)
		l.warnAboutMode(mode)
	}
	if opts.EnvPrefix != "" {
		l.environment(env, opts.EnvPrefix+"_")
	}
	for _, o := range opts.Overrides {
		l.override(o)
	}
	return l, Join(l.errs...)
}

// readFile reads a regular file of bounded size; it follows links.
func readFile(path string) ([]byte, fs.FileMode, error) {
	shown := shownPath(path)
	// Asked before opening, because opening a FIFO would wait for its writer.
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("not a regular file")
	}
	if err != nil {
		return nil, 0, fileError(shown, err)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, fileError(shown, err)
	}
	defer func() { _ = f.Close() }()
	if info, err = f.Stat(); err != nil {
		return nil, 0, fileError(shown, err)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("expected a configuration of at most %d bytes", maxFile)
	}
	if err != nil {
		return nil, 0, fileError(shown, err)
	}
	return text, info.Mode().Perm(), nil
}

func fileError(shown string, err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return fmt.Errorf("%s: %w", shown, err)
}

// file applies the text of the configuration file.
func (l *Loaded) file(text []byte) {
	doc := parse(shownPath(l.Path), text)
	known := newReport(doc)
	for _, it := range doc.items {
		l.apply(it, known)
	}
	// What go-toml says of a line that has its own error already adds nothing.
	for _, e := range doc.errs {
		if !known.lines[e.Origin.Line] {
			l.errs = append(l.errs, e)
		}
	}
	l.errs = append(l.errs, known.err()...)
}

// report collects the errors of single keys; each place is reported once.
type report struct {
	doc   *document
	at    map[int]bool
	lines map[int]bool
	errs  Errors
}

func newReport(d *document) *report {
	return &report{doc: d, at: map[int]bool{}, lines: map[int]bool{}}
}

// full reports that there is nothing to add at pos.
func (r *report) full(pos int) bool { return r.at[pos] || len(r.errs) > maxErrors }

func (r *report) add(pos int, key, format string, args ...any) {
	if r.full(pos) {
		return
	}
	r.at[pos] = true
	e := &Error{Origin: r.doc.origin(pos), Key: key, Err: fmt.Errorf(format, args...)}
	r.lines[e.Origin.Line] = true
	r.errs = append(r.errs, e)
}

func (r *report) err() []error {
	if len(r.errs) == 0 {
		return nil
	}
	return []error{r.errs}
}

// apply sets one key of the file, or begins one table.
func (l *Loaded) apply(it item, known *report) {
	table, v, path := l.root, l.dst, ""
	for i, s := range it.path {
		last := i == len(it.path)-1
		child := table.child(s.name)
		if child == nil {
			l.unknown(table, path, it, i, known)
			return
		}
		path = join(path, child.name)
		switch {
		case child.shape == isValue && last && !it.isHeader && s.index < 0:
			l.applyValue(leaf{path: path, node: child, value: v.FieldByIndex(child.index), parent: v, table: table}, it, known)
			return
		case child.shape == isValue:
			known.add(s.pos, path, "expected %s, found a table", describe(child.typ))
			return
		case last && !it.isHeader:
			if child.shape == isTables && it.value.kind == unstable.Array && len(it.value.list) == 0 {
				v.FieldByIndex(child.index).SetZero()
				return
			}
			known.add(it.valuePos, path, "expected a table %s, found %s", child.header(), it.value.found(child.typ))
			return
		case child.shape == isTables != (s.index >= 0):
			known.add(s.pos, path, "expected %s", child.header())
			return
		}
		v = v.FieldByIndex(child.index)
		if child.shape == isTables {
			path = fmt.Sprintf("%s[%d]", path, s.index)
			v = l.element(v, s.index, path)
		}
		if _, ok := l.origins[path]; !ok {
			l.origins[path] = known.doc.origin(s.pos)
		}
		table = child
	}
}

// element returns the i-th element of a list of tables. The file's first
// element takes the place of a default list.
func (l *Loaded) element(list reflect.Value, i int, path string) reflect.Value {
	if _, begun := l.origins[path]; i == 0 && !begun {
		list.SetZero()
	}
	for list.Len() <= i {
		list.Set(reflect.Append(list, newElement(list.Type().Elem())))
	}
	return list.Index(i)
}

func (n *node) header() string {
	if n.shape == isTables {
		return "[[" + strings.ReplaceAll(strings.TrimSuffix(n.path, "[]"), "[]", "") + "]]"
	}
	return "[" + strings.ReplaceAll(n.path, "[]", "") + "]"
}

func (l *Loaded) applyValue(f leaf, it item, known *report) {
	key := it.path[len(it.path)-1].pos
	if before, ok := l.origins[f.path]; ok {
		known.add(key, f.path, "set a second time; the first is on line %d", before.Line)
		return
	}
	value, ok := it.value.decode(f.node.typ)
	if !ok {
		known.add(it.valuePos, f.path, "expected %s, found %s", describe(f.node.typ), it.value.found(f.node.typ))
		return
	}
	if err := l.assign(f, value, known.doc.origin(key)); err != nil {
		known.add(key, f.path, "%w", err)
	}
}

// unknown reports the i-th part of an item's key, which table does not have.
func (l *Loaded) unknown(table *node, path string, it item, i int, known *report) {
	s := it.path[i]
	if known.full(s.pos) {
		return // a hint costs more than a key
	}
	isTableName := it.isHeader || i < len(it.path)-1
	what := "unknown key"
	if isTableName {
		what = "unknown table"
	}
	if !presentable(s.name) {
		known.add(s.pos, path, "%s (its name is not shown, as it may be a secret)", what)
		return
	}
	known.add(s.pos, join(path, s.name), "%s%s", what, l.hint(table, s.name, isTableName))
}

// hint is "; did you mean …" for a name that table does not have, or the table
// to which the name belongs.
func (l *Loaded) hint(table *node, name string, isTableName bool) string {
	if !isTableName {
		var homes []string
		for _, t := range l.root.children {
			if t != table && t.shape != isValue && t.child(name) != nil {
				homes = append(homes, t.header())
			}
		}
		if len(homes) == 1 {
			return "; it belongs in " + homes[0]
		}
	}
	near, ok := Nearest(name, table.names())
	if !ok {
		return ""
	}
	if c := table.child(near); c.shape != isValue {
		return "; did you mean " + c.header() + "?"
	}
	return fmt.Sprintf("; did you mean %q?", near)
}

// assign stores a value that has the right type.
func (l *Loaded) assign(f leaf, value reflect.Value, origin Origin) error {
	if s, ok := value.Interface().(secret.Secret); ok && origin.Layer == FromFlag && !s.IsZero() && !s.IsReference() {
		return fmt.Errorf("a secret on the command line can be read by every user; expected a reference or %s_file", f.node.name)
	}
	if !value.IsZero() && !l.allForms {
		if err := l.onlyForm(f, origin.Layer); err != nil {
			return err
		}
	}
	f.value.Set(value)
	l.origins[f.path] = origin
	return nil
}
