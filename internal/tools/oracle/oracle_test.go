package main

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// needsKeys are the values of incident.pcapng that are in TLS: the capture brings
// the keys along, and tshark decrypts with them.
var needsKeys = map[string]bool{
	"url https://sync.example.net/check": true, "user_agent demo-client/1.0": true,
	"certificate bf335f3fecc672bfab2249dadb4c503a3563a42bf5817f29025f26f31169d40e": true,
	"file dc51b8c96c2d745df3bd5590d990230a482fd247123599548e0632fdbf97fc22":        true,
}

// TestTheExamplesAsTsharkSeesThem: every value, in the same frame.
func TestTheExamplesAsTsharkSeesThem(t *testing.T) {
	if _, err := exec.LookPath("tshark"); err != nil {
		t.Skip("tshark is not installed")
	}
	files, err := captures([]string{filepath.Join("..", "..", "..", "examples", "captures")})
	if err != nil {
		t.Fatal(err)
	}
	cache, values := t.TempDir(), 0
	for _, path := range files {
		r, ok := compare(t.Context(), cache, path, false)
		if !ok || r.err != nil {
			t.Fatal(path, ok, r.err)
		}
		for _, c := range r.counts {
			values += c.values
		}
		for _, d := range r.list {
			if !needsKeys[d.value] {
				t.Errorf("%s: %s in frame %d is not found, or in frame %d: %s", path, d.field, d.theirs, d.ours, d.value)
			}
		}
		if len(r.failed) > 0 || len(r.limits) > 0 {
			t.Errorf("%s: %v %v", path, r.failed, r.limits)
		}
	}
	if values < 150 {
		t.Errorf("%d values only", values)
	}
}

// TestDifferencesAreSeen: what is not there is told.
func TestDifferencesAreSeen(t *testing.T) {
	found := keys("http.host", map[string]int64{"WWW.Example.com:8080": 4, "192.0.2.1": 7})
	if found["host www.example.com"] != 4 || found["address 192.0.2.1"] != 7 || len(found) != 2 {
		t.Errorf("%v", found)
	}
	if _, err := exec.LookPath("tshark"); err != nil {
		t.Skip("tshark is not installed")
	}
	r, _ := compare(t.Context(), t.TempDir(), filepath.Join("..", "..", "..", "examples", "captures", "incident.pcapng"), false)
	missed := map[string]bool{}
	for _, d := range r.list {
		missed[d.value] = true
	}
	if len(missed) != len(needsKeys) {
		t.Errorf("%v", missed)
	}
}
