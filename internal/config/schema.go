package config

import (
	"encoding"
	"fmt"
	"reflect"
	"strings"

	"capagent/internal/secret"
)

// shape is what a key is: a value, a table of keys, or a list of tables.
type shape uint8

const (
	isValue shape = iota
	isTable
	isTables
)

// node describes one key of a configuration struct.
type node struct {
	name     string
	path     string // "cloudshark.url"; elements of a list as "watch[].path"
	shape    shape
	typ      reflect.Type // of the value, the table, or one element of the list
	index    []int        // of the field in the struct above
	children []*node
}

var (
	textType   = reflect.TypeFor[encoding.TextUnmarshaler]()
	secretType = reflect.TypeFor[secret.Secret]()
)

func isText(t reflect.Type) bool { return reflect.PointerTo(t).Implements(textType) }

// schemaOf reads the toml tags of a struct. It panics for a type that a
// configuration can't have: that is a mistake in the program.
func schemaOf(t reflect.Type) *node {
	root := &node{shape: isTable, typ: t}
	root.fields(t, nil, 0)
	return root
}

func (n *node) fields(t reflect.Type, index []int, depth int) {
	if depth > 8 {
		panic("config: " + t.String() + " is nested too deeply")
	}
	for i := range t.NumField() {
		f := t.Field(i)
		at := append(append([]int(nil), index...), i)
		name, _, _ := strings.Cut(f.Tag.Get("toml"), ",")
		if f.Anonymous && name == "" && f.Type.Kind() == reflect.Struct {
			n.fields(f.Type, at, depth)
			continue
		}
		if name == "" || name == "-" || !f.IsExported() {
			continue
		}
		child := &node{name: name, path: join(n.path, name), typ: f.Type, index: at}
		switch {
		case isText(f.Type):
		case f.Type.Kind() == reflect.Struct:
			child.shape = isTable
		case f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() == reflect.Struct && !isText(f.Type.Elem()):
			child.shape, child.typ = isTables, f.Type.Elem()
			child.path += "[]"
		}
		if child.shape == isValue {
			if describe(f.Type) == "" {
				panic(fmt.Sprintf("config: %s: no way to configure a %s", child.path, f.Type))
			}
		} else {
			child.fields(child.typ, nil, depth+1)
		}
		n.children = append(n.children, child)
	}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func (n *node) child(name string) *node {
	for _, c := range n.children {
		if c.name == name {
			return c
		}
	}
	return nil
}

func (n *node) names() []string {
	out := make([]string, 0, len(n.children))
	for _, c := range n.children {
		out = append(out, c.name)
	}
	return out
}

// isSecret reports whether the key is the literal form of a secret.
func (n *node) isSecret() bool { return n.shape == isValue && n.typ == secretType }

// leaf is one value of a configuration with its place in the struct.
type leaf struct {
	path   string // with indices: "watch[0].path"
	node   *node
	value  reflect.Value
	parent reflect.Value // the struct that holds it
	table  *node         // the node of that struct
}

// leaves lists every value below v in the order of the struct's fields.
func (n *node) leaves(v reflect.Value, path string, visit func(leaf)) {
	for _, c := range n.children {
		at := join(path, c.name)
		fv := v.FieldByIndex(c.index)
		switch c.shape {
		case isValue:
			visit(leaf{path: at, node: c, value: fv, parent: v, table: n})
		case isTable:
			c.leaves(fv, at, visit)
		case isTables:
			for i := range fv.Len() {
				c.leaves(fv.Index(i), fmt.Sprintf("%s[%d]", at, i), visit)
			}
		}
	}
}

// defaulter may be implemented by the pointer type of a list's element
// ([[watch]]), whose defaults cannot stand in the destination beforehand.
type defaulter interface{ SetDefaults() }

func newElement(t reflect.Type) reflect.Value {
	p := reflect.New(t)
	if d, ok := p.Interface().(defaulter); ok {
		d.SetDefaults()
	}
	return p.Elem()
}
