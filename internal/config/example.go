package config

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strings"
)

var (
	// exampleLine is a key or a table's header, live or commented out. Prose has
	// a blank after its #, a commented-out key has none.
	exampleLine   = regexp.MustCompile(`^#?(\[\[?[a-z][a-z0-9_.]*\]\]?|[a-z][a-z0-9_]*\s*=)`)
	exampleHeader = regexp.MustCompile(`^#?\[\[?([a-z][a-z0-9_.]*)\]\]?\s*(?:#.*)?$`)
	exampleKey    = regexp.MustCompile(`^#?([a-z][a-z0-9_]*)\s*=`)
	exampleSample = regexp.MustCompile(`\s#\s*example\b[^"']*$`)
)

// CheckExample compares an example file with the struct that ptr points to, as
// filled with the defaults. The example shows every key on one line, either live
// or commented out as `#key = value` (no blank after the #), under at least one
// line of prose that says why. The value is the default, unless a comment behind
// it begins with "# example": then it is one that a user might choose. It
// reports keys missing on either side, defaults that differ, values that Load
// refuses and keys without a line of why.
func CheckExample(text string, ptr any) error {
	var errs []error
	ex := readExample(text)
	for _, line := range ex.bare {
		errs = append(errs, fmt.Errorf("line %d: the key has no line of why above it", line))
	}
	given := reflect.ValueOf(ptr).Elem()
	loaded := &Loaded{
		Path: "example", dst: reflect.New(given.Type()).Elem(), root: schemaOf(given.Type()),
		origins: map[string]Origin{}, allForms: true,
	}
	loaded.file([]byte(ex.live))
	if err := Join(loaded.errs...); err != nil {
		errs = append(errs, err)
	}
	shown := map[string]string{}
	loaded.root.leaves(loaded.dst, "", func(f leaf) {
		if _, ok := loaded.origins[f.path]; ok {
			shown[f.node.path] = tomlText(f.value)
		}
	})
	for _, k := range Keys(ptr) {
		value, ok := shown[k.Path]
		switch {
		case !ok:
			errs = append(errs, fmt.Errorf("%s: missing in the example", k.Path))
		case !ex.samples[k.Path] && value != k.Default:
			errs = append(errs, fmt.Errorf("%s: the example shows %s, the default is %s", k.Path, value, k.Default))
		}
	}
	return errors.Join(errs...)
}

// example is an example file made live, with the lines kept in their places.
type example struct {
	live    string
	samples map[string]bool // keys whose value is marked as an example, by Key.Path
	bare    []int           // lines of keys without prose above
}

func readExample(text string) example {
	ex := example{samples: map[string]bool{}}
	lines := strings.Split(text, "\n")
	table, prose := "", false
	for i, line := range lines {
		line = strings.TrimRight(line, "\r")
		if !exampleLine.MatchString(line) {
			prose = strings.HasPrefix(line, "# ")
			continue
		}
		lines[i] = strings.TrimPrefix(line, "#")
		if m := exampleHeader.FindStringSubmatch(line); m != nil {
			table, prose = m[1], false
			if strings.Contains(line, "[[") {
				table += "[]"
			}
			continue
		}
		if !prose {
			ex.bare = append(ex.bare, i+1)
		}
		if m := exampleKey.FindStringSubmatch(line); m != nil && exampleSample.MatchString(line) {
			ex.samples[join(table, m[1])] = true
		}
		prose = false
	}
	ex.live = strings.Join(lines, "\n")
	return ex
}
