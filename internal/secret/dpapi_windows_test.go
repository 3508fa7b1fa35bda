package secret

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestOnWindowsSecretsAreSealedByTheMachine(t *testing.T) {
	root := t.TempDir()
	t.Setenv("ProgramData", root)
	if _, err := Keep(t.Context(), DPAPI, "token", New(canary)); err == nil || leaks(err.Error()) {
		t.Fatalf("without the folder: %v", err)
	}
	if err := os.MkdirAll(Vault(), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, value := range []string{"another", canary} {
		if reference, err := Keep(t.Context(), DPAPI, "token", New(value)); err != nil || reference != "@{dpapi:token}" {
			t.Fatalf("%q, %v", reference, err)
		}
	}
	get := func(name string) (string, error) {
		s, err := Resolve(t.Context(), Source{Key: "x", Value: literal(t, "@{dpapi:"+name+"}")})
		return s.Reveal(), err
	}
	for _, name := range []string{"token", "TOKEN"} {
		if got, err := get(name); err != nil || got != canary {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	files, err := os.ReadDir(Vault())
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	sealed, err := os.ReadFile(filepath.Join(Vault(), files[0].Name()))
	if err != nil || bytes.Contains(sealed, []byte(canary)) || len(sealed) <= len(canary) {
		t.Errorf("%q, %v", sealed, err)
	}

	// A sealed secret under another's name is not that one's.
	if err := os.WriteFile(filepath.Join(Vault(), "other.dpapi"), sealed, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"other": "can't open it", "none": "capagent secret set none", "nul": "expected the name"} {
		if got, err := get(name); err == nil || got != "" || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := Forget(t.Context(), DPAPI, "token"); err != nil {
		t.Error(err)
	}
	if err := Forget(t.Context(), DPAPI, "token"); !errors.Is(err, ErrNotKept) {
		t.Error(err)
	}
}
