package config

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"

	"capagent/internal/secret"
)

// group is a secret with the keys that may give it: a field of type
// secret.Secret named x and, where the struct has them, string fields x_file
// and x_command.
type group struct {
	path  string // of the literal
	forms [3]leaf
}

var suffixes = [3]string{"", "_file", "_command"}

// groups lists the secrets in the order of the struct.
func (l *Loaded) groups() []group {
	var out []group
	l.root.leaves(l.dst, "", func(f leaf) {
		if f.node.isSecret() {
			out = append(out, groupOf(f, f.node.name))
		}
	})
	return out
}

// groupOf finds the forms of the secret called name that stand beside f.
func groupOf(f leaf, name string) group {
	base := strings.TrimSuffix(f.path, f.node.name)
	g := group{path: base + name}
	for i, suffix := range suffixes {
		if n := f.table.child(name + suffix); n != nil && n.shape == isValue {
			g.forms[i] = leaf{path: base + n.name, node: n, value: f.parent.FieldByIndex(n.index), parent: f.parent, table: f.table}
		}
	}
	return g
}

// onlyForm makes room for one form of a secret: a later layer replaces the
// other forms of earlier layers, two forms in one layer are an error.
func (l *Loaded) onlyForm(f leaf, layer Layer) error {
	for _, suffix := range suffixes {
		name, ok := strings.CutSuffix(f.node.name, suffix)
		if n := f.table.child(name); !ok || n == nil || !n.isSecret() {
			continue
		}
		for _, other := range groupOf(f, name).forms {
			if other.node == nil || other.node == f.node || other.value.IsZero() {
				continue
			}
			if l.origins[other.path].Layer == layer {
				return fmt.Errorf("set together with %s; give one of them", other.path)
			}
			other.value.SetZero()
			delete(l.origins, other.path)
		}
	}
	return nil
}

// usedForm returns the key by which the secret at key was given, and any other
// key unchanged.
func (l *Loaded) usedForm(key string) string {
	for _, g := range l.groups() {
		for _, f := range g.forms[1:] {
			if g.path == key && f.node != nil && !f.value.IsZero() {
				return f.path
			}
		}
	}
	return key
}

// Command returns the key of a secret that a command prints, "" when there is none.
func (l *Loaded) Command() string {
	for _, g := range l.groups() {
		if f := g.forms[2]; f.node != nil && !f.value.IsZero() {
			return f.path
		}
	}
	return ""
}

// ResolveSecrets follows every file, command and reference and stores the
// secrets in the struct. It looks at all of them; its error is an Errors with
// the place of each key.
func (l *Loaded) ResolveSecrets(ctx context.Context) error {
	var errs []error
	for _, g := range l.groups() {
		value, err := l.resolve(ctx, g)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		g.forms[0].value.Set(reflect.ValueOf(value))
	}
	return Join(errs...)
}

// ResolveSecret follows the one secret at key ("cloudshark.token") and returns
// it without storing it.
func (l *Loaded) ResolveSecret(ctx context.Context, key string) (secret.Secret, error) {
	for _, g := range l.groups() {
		if g.path == key {
			return l.resolve(ctx, g)
		}
	}
	panic("config: no secret has the key " + key)
}

// Secrets returns the secrets that the struct holds now, for a secret.Redactor.
func (l *Loaded) Secrets() []secret.Secret {
	var out []secret.Secret
	for _, g := range l.groups() {
		out = append(out, g.forms[0].value.Interface().(secret.Secret))
	}
	return out
}

func (l *Loaded) resolve(ctx context.Context, g group) (secret.Secret, error) {
	src := secret.Source{
		Key:       g.path,
		Value:     g.forms[0].value.Interface().(secret.Secret),
		LookupEnv: l.lookup,
	}
	if l.usedForm(g.path) != g.path {
		src.Value = secret.Secret{} // stored by an earlier ResolveSecrets
	}
	if f := g.forms[1]; f.node != nil {
		src.File = f.value.String()
	}
	if f := g.forms[2]; f.node != nil {
		src.Command = f.value.String()
	}
	for _, f := range g.forms {
		// A path in the file is relative to the file; one from the shell to
		// where the shell is.
		if f.node != nil && !f.value.IsZero() && l.origins[f.path].Layer == FromFile {
			src.Dir = filepath.Dir(l.Path)
		}
	}
	value, err := secret.Resolve(ctx, src)
	var keyed *secret.Error
	if errors.As(err, &keyed) {
		return secret.Secret{}, &Error{Origin: l.origin(keyed.Key), Key: keyed.Key, Err: keyed.Err}
	}
	return value, err
}

// warnAboutMode tells of literal secrets in a file that others can read.
func (l *Loaded) warnAboutMode(mode fs.FileMode) {
	if runtime.GOOS == "windows" || mode&0o044 == 0 {
		return
	}
	for _, g := range l.groups() {
		s := g.forms[0].value.Interface().(secret.Secret)
		o := l.origins[g.path]
		if o.Layer == FromFile && !s.IsZero() && !s.IsReference() {
			l.Warnings = append(l.Warnings, fmt.Sprintf(
				"%s: %s: other users can read this secret (the file has mode %04o); chmod 600 the file or use %s_file", o, g.path, mode, g.forms[0].node.name))
		}
	}
}
