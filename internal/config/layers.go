package config

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// environment applies the variables that begin with prefix. Variables that
// belong to no table, such as PREFIX_CONFIG, are somebody else's.
func (l *Loaded) environment(env map[string]string, prefix string) {
	settable := map[string]leaf{}
	l.root.leaves(l.dst, "", func(f leaf) {
		if !strings.Contains(f.path, "[") {
			settable[variable(prefix, f.path)] = f
		}
	})
	names := make([]string, 0, len(env))
	for name, value := range env {
		if strings.HasPrefix(name, prefix) && value != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		f, ok := settable[name]
		if !ok {
			l.unknownVariable(prefix, name)
			continue
		}
		l.applyText(f, env[name], Origin{Layer: FromEnvironment, Name: name})
	}
}

func variable(prefix, path string) string {
	return prefix + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(path))
}

func (l *Loaded) unknownVariable(prefix, name string) {
	for _, t := range l.root.children {
		section := variable(prefix, t.name) + "_"
		key, ok := strings.CutPrefix(name, section)
		if !ok || t.shape == isValue {
			continue
		}
		e := &Error{Origin: Origin{Layer: FromEnvironment, Name: name}}
		if !presentable(strings.ReplaceAll(key, "_", "")) {
			e.Origin.Name = section + "…"
		}
		if t.shape == isTables {
			e.Err = fmt.Errorf("%s can't be set by a variable; write it into the file", t.header())
		} else {
			e.Err = errors.New("unknown key" + l.variableHint(section, key, t))
		}
		l.errs = append(l.errs, e)
		return
	}
}

func (l *Loaded) variableHint(section, key string, t *node) string {
	near, ok := Nearest(key, t.names())
	if !ok || t.child(near).shape != isValue {
		return ""
	}
	return "; did you mean " + variable(section, near) + "?"
}

// override applies one value from the command line.
func (l *Loaded) override(o Override) {
	origin := Origin{Layer: FromFlag, Name: o.Flag}
	var target *leaf
	var names []string
	l.root.leaves(l.dst, "", func(f leaf) {
		names = append(names, f.path)
		if f.path == o.Key {
			target = &f
		}
	})
	if target == nil {
		text := "unknown key"
		if near, ok := Nearest(o.Key, names); ok {
			text += fmt.Sprintf("; did you mean %q?", near)
		}
		l.errs = append(l.errs, &Error{Origin: origin, Err: errors.New(text)})
		return
	}
	l.applyText(*target, o.Value, origin)
}

func (l *Loaded) applyText(f leaf, text string, origin Origin) {
	value, ok := decodeText(f.node.typ, text)
	err := fmt.Errorf("expected %s", describeText(f.node.typ))
	if ok {
		err = l.assign(f, value, origin)
	}
	if err != nil {
		l.errs = append(l.errs, &Error{Origin: origin, Key: f.path, Err: err})
	}
}

// describeText is describe for a value that is given without TOML's quotes.
func describeText(t reflect.Type) string {
	if t.Kind() == reflect.Slice {
		return "a list separated by commas, each " + describeText(t.Elem())
	}
	return strings.TrimSuffix(describe(t), " in quotes")
}
