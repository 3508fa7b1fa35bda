// Package sbom lists what a Go program is made of as CycloneDX 1.6
// (https://cyclonedx.org/docs/1.6/json/), from what the linker wrote into it.
package sbom

import (
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"
)

type document struct {
	Format       string       `json:"bomFormat"`
	Spec         string       `json:"specVersion"`
	Version      int          `json:"version"`
	Metadata     metadata     `json:"metadata"`
	Components   []component  `json:"components"`
	Dependencies []dependency `json:"dependencies"`
}

type metadata struct {
	Timestamp string    `json:"timestamp"`
	Component component `json:"component"`
}

type component struct {
	Type       string     `json:"type"`
	Ref        string     `json:"bom-ref"`
	Name       string     `json:"name"`
	Version    string     `json:"version"`
	URL        string     `json:"purl,omitempty"`
	Properties []property `json:"properties,omitempty"`
}

type property struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type dependency struct {
	Ref       string   `json:"ref"`
	DependsOn []string `json:"dependsOn"`
}

// Of returns the document of the program file. version is the program's own, made
// when it was built. Which module asked for which is not in the file: all of them
// are told as the program's.
func Of(file, name, version string, made time.Time) ([]byte, error) {
	info, err := buildinfo.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("sbom of %s: %w", file, err)
	}
	own := component{Type: "application", Ref: name, Name: name, Version: version}
	for _, s := range info.Settings {
		switch s.Key {
		case "GOOS", "GOARCH", "GOARM", "GOARM64", "GOAMD64", "CGO_ENABLED", "-tags":
			own.Properties = append(own.Properties, property{"capagent:go:" + strings.TrimPrefix(s.Key, "-"), s.Value})
		}
	}
	goVersion := strings.TrimPrefix(info.GoVersion, "go")
	std := component{Type: "library", Ref: golang("std", goVersion), Name: "std", Version: goVersion, URL: golang("std", goVersion)}
	d := document{
		Format: "CycloneDX", Spec: "1.6", Version: 1, Components: []component{std},
		Metadata: metadata{made.UTC().Format(time.RFC3339), own},
	}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		c := component{Type: "library", Ref: golang(m.Path, m.Version), Name: m.Path, Version: m.Version, URL: golang(m.Path, m.Version)}
		if m.Sum != "" {
			// A hash over the module's files as in go.sum, which CycloneDX has no name for.
			c.Properties = []property{{"capagent:go:sum", m.Sum}}
		}
		d.Components = append(d.Components, c)
	}
	all := dependency{Ref: own.Ref}
	for _, c := range d.Components {
		all.DependsOn = append(all.DependsOn, c.Ref)
	}
	d.Dependencies = []dependency{all}
	text, err := json.MarshalIndent(d, "", "  ")
	return append(text, '\n'), err
}

// golang is a package URL (purl-spec, type golang): the slashes of the path stay.
func golang(path, version string) string {
	parts := strings.Split(strings.ToLower(path), "/")
	for i, p := range parts {
		parts[i] = url.PathEscape(p)
	}
	return "pkg:golang/" + strings.Join(parts, "/") + "@" + url.QueryEscape(version)
}
