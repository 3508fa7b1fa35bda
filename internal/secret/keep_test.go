package secret

import (
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/zalando/go-keyring"
)

func TestWhatIsKeptIsFoundByItsReference(t *testing.T) {
	keyring.MockInit()
	for _, value := range []string{"another", canary} { // the later one stands
		reference, err := Keep(t.Context(), Keyring, "cloudshark-token", New(value))
		if err != nil || reference != "@{keyring:cloudshark-token}" {
			t.Fatalf("%q, %v", reference, err)
		}
		got, err := Resolve(t.Context(), Source{Key: "x", Value: literal(t, reference)})
		if err != nil || got.Reveal() != value {
			t.Errorf("%q, %v", got.Reveal(), err)
		}
	}
	if err := Forget(t.Context(), Keyring, "cloudshark-token"); err != nil {
		t.Error(err)
	}
	if err := Forget(t.Context(), Keyring, "cloudshark-token"); !errors.Is(err, ErrNotKept) {
		t.Errorf("once more: %v", err)
	}
}

func TestWhatCannotBeKeptIsRefused(t *testing.T) {
	keyring.MockInit()
	for _, tc := range []struct{ store, name, value, want string }{
		{"vault", "a", canary, `no store is called "vault"`},
		{Keyring, "../a", canary, "expected a name"},
		{Keyring, strings.Repeat("a", 65), canary, "expected a name"},
		{DPAPI, `a\b`, canary, "expected a name"},
		{Keyring, "a", "", "empty"},
	} {
		if reference, err := Keep(t.Context(), tc.store, tc.name, New(tc.value)); err == nil || !strings.Contains(err.Error(), tc.want) || leaks(err.Error()) {
			t.Errorf("%s %s: %q, %v", tc.store, tc.name, reference, err)
		}
	}
	keyring.MockInitWithError(errors.New("dbus: no session"))
	if _, err := Keep(t.Context(), Keyring, "a", New(canary)); err == nil || !strings.Contains(err.Error(), "desktop session") {
		t.Errorf("no keyring: %v", err)
	}
	if runtime.GOOS == "windows" {
		return
	}
	if _, err := Keep(t.Context(), DPAPI, "a", New(canary)); err == nil || !strings.Contains(err.Error(), "only Windows") {
		t.Errorf("no DPAPI: %v", err)
	}
	if _, err := Resolve(t.Context(), Source{Key: "x", Value: literal(t, "@{dpapi:a}")}); err == nil || !strings.Contains(err.Error(), "x: @{dpapi:a}: only Windows") {
		t.Errorf("no DPAPI: %v", err)
	}
}

func TestASecretIsReadByTheRulesForFiles(t *testing.T) {
	for text, want := range map[string]string{canary + "\r\n": canary, "\ufeff" + canary: canary, canary + "\n\n": canary + "\n"} {
		if got, err := Read(strings.NewReader(text)); err != nil || got.Reveal() != want {
			t.Errorf("%q: %q, %v", text, got.Reveal(), err)
		}
	}
	for _, text := range []string{"", "\n", strings.Repeat("a", maxBytes+1)} {
		if _, err := Read(strings.NewReader(text)); err == nil {
			t.Errorf("%.10q is taken", text)
		}
	}
}
