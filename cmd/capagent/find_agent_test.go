//go:build unix

package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// The agent is asked where one runs, and says the same.
func TestFindSaysTheSameWithAnAgent(t *testing.T) {
	t.Parallel()
	s := startSandbox(t)
	p := at{s, filepath.Join(shortDir(t), "state")}
	evidence := t.TempDir()
	if err := makeCaptures(evidence, 12); err != nil {
		t.Fatal(err)
	}
	if o := p.run(t, "import", evidence); o.code > exitSome {
		t.Fatal(o.stderr)
	}
	for id := range int64(12) {
		err := recordSightings(t.Context(), p.state, id+1, []string{"host=www.example.com", fmt.Sprintf("address=192.0.2.%d", id), "user_agent=\\x1b ü"})
		if err != nil {
			t.Fatal(err)
		}
	}
	commands := [][]string{
		{"find", "www.example.com"},
		{"find", "www.example.com", "--json", "--limit", "5"},
		{"find", "*.example.com", "--limit", "3"},
		{"find", "192.0.2.0/29", "--json"},
		{"find", "\\x1b ü"},
		{"find", "absent.example.com"},
		{"find", "absent.example.com", "--fail-if-empty"},
		{"find", "www.example.com", "--since", "2026-03-10", "--json"},
		{"find", "1.2.3.4/2"},
	}
	say := func() (all []string) {
		for _, args := range commands {
			o := p.run(t, args...)
			all = append(all, fmt.Sprintf("%q: %d\n%s%s", args, o.code, o.stdout, o.stderr))
		}
		return all
	}
	alone := say()
	_, stop := p.startAgent(t)
	with := say()
	stop()
	for i := range alone {
		if alone[i] != with[i] {
			t.Errorf("alone %s\nwith an agent %s", alone[i], with[i])
		}
	}
	if n := strings.Count(alone[0], "\n"); n != 14 {
		t.Errorf("%d lines: %s", n, alone[0])
	}
}
