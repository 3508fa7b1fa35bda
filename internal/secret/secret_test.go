package secret

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pelletier/go-toml/v2"
	"github.com/rs/zerolog"
)

const canary = "C4naryC0ffee5ecret"

func TestSecretPrintsAsMaskInEveryWay(t *testing.T) {
	type holder struct {
		Token  Secret `toml:"token" json:"token" xml:"token"`
		hidden Secret // fmt reaches unexported fields without calling methods
	}
	s := New(canary)
	h := holder{Token: s, hidden: s}
	var out bytes.Buffer
	for _, verb := range "vsqxXdtTbcoUeEfFgGp" {
		for _, flags := range []string{"", "+", "#", "-", "0", " ", "20", ".3"} {
			format := "%" + flags + string(verb) + "\n"
			fmt.Fprintf(&out, format, s)
			fmt.Fprintf(&out, format, &s)
			fmt.Fprintf(&out, format, h)
			fmt.Fprintf(&out, format, &h)
			fmt.Fprintf(&out, format, []Secret{s})
			fmt.Fprintf(&out, format, map[Secret]any{s: h})
		}
	}
	fmt.Fprintln(&out, s, s.String(), s.GoString(), errors.New(fmt.Sprint(h)))
	for name, marshal := range map[string]func(any) ([]byte, error){"json": json.Marshal, "toml": toml.Marshal, "xml": xml.Marshal} {
		b, err := marshal(h)
		if err != nil || !bytes.Contains(b, []byte(Mask)) {
			t.Errorf("%s: %s, %v", name, b, err)
		}
		out.Write(b)
	}
	log := zerolog.New(&out)
	log.Info().Interface("a", s).Any("b", h).Stringer("c", s).Fields(map[string]any{"d": s, "e": &h}).Msgf("%v %+v", s, h)
	log.Info().Ctx(t.Context()).Str("f", s.String()).Send()
	sl := slog.New(slog.NewJSONHandler(&out, nil))
	sl.Info("x", "a", s, "b", h, "c", &s)
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "a", s, "b", h)

	if leaks(out.String()) {
		t.Errorf("the secret shows:\n%s", out.String())
	}
	if got := s.Reveal(); got != canary {
		t.Errorf("Reveal() = %q", got)
	}
	if got := fmt.Sprintf("%s|%v|%+v|%#v|%q|%x|%d", s, s, s, s, s, s, s); got != strings.Repeat("***|", 6)+"***" {
		t.Errorf("formats to %s", got)
	}
}

// leaks looks for any 8 bytes of the canary, plain or in hexadecimal.
func leaks(text string) bool {
	text = strings.ToLower(text)
	for i := 0; i+8 <= len(canary); i++ {
		part := strings.ToLower(canary[i : i+8])
		if strings.Contains(text, part) || strings.Contains(text, fmt.Sprintf("%x", canary[i:i+8])) {
			return true
		}
	}
	return false
}

func TestSecretsAreEqualByContent(t *testing.T) {
	a, b, c := New(canary), New(strings.Clone(canary)), New("another one")
	if a != b || !a.Equal(b) || !reflect.DeepEqual(a, b) || !cmp.Equal(a, b) {
		t.Error("equal secrets differ")
	}
	if a == c || a.Equal(c) || a.Equal(Secret{}) || cmp.Equal(a, c) {
		t.Error("different secrets are equal")
	}
	var ref Secret
	if err := ref.UnmarshalText([]byte("@{env:X}")); err != nil {
		t.Fatal(err)
	}
	if ref == New("@{env:X}") || ref.Equal(New("@{env:X}")) {
		t.Error("a reference equals the literal of the same text")
	}
}

func TestZeroSecretIsUnset(t *testing.T) {
	var s Secret
	if !s.IsZero() || s.Reveal() != "" || s != New("") || s.IsReference() {
		t.Error("the zero secret is not unset")
	}
}

func TestUnresolvedReferenceRevealsNothing(t *testing.T) {
	var s Secret
	if err := s.UnmarshalText([]byte("@{env:X}")); err != nil {
		t.Fatal(err)
	}
	if s.IsZero() || !s.IsReference() || s.Reveal() != "" {
		t.Errorf("IsZero %v, IsReference %v, Reveal %q", s.IsZero(), s.IsReference(), s.Reveal())
	}
}

func TestMaskIsNotTakenAsASecret(t *testing.T) {
	var s Secret
	if err := s.UnmarshalText([]byte(Mask)); err == nil || !s.IsZero() {
		t.Errorf("UnmarshalText(%q) = %v", Mask, err)
	}
}
