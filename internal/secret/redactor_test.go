package secret

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

const odd = `p&ss wörd/"1"+<x>\`

func TestRedactorMasksEveryFormOfASecret(t *testing.T) {
	r := NewRedactor(New(canary), New(odd))
	for _, value := range []string{canary, odd} {
		js, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		for _, form := range []string{
			value, strings.ToUpper(canary), url.QueryEscape(value), url.PathEscape(value),
			strings.ToLower(url.QueryEscape(value)), string(js), strconv.Quote(value), fmt.Sprintf("%+q", canary),
			base64.StdEncoding.EncodeToString([]byte(value)), base64.URLEncoding.EncodeToString([]byte(value)),
			base64.RawStdEncoding.EncodeToString([]byte(value)),
		} {
			if got := r.String("<" + form + ">"); strings.Trim(got, `<">`) != Mask {
				t.Errorf("%q becomes %q", form, got)
			}
		}
	}
}

func TestRedactorFindsASecretInsideOfBasicCredentials(t *testing.T) {
	r := NewRedactor(New(canary))
	for _, user := range []string{"", "u", "us", "use"} {
		for _, after := range []string{"", "1", "12", "123"} {
			text := base64.StdEncoding.EncodeToString([]byte(user + canary + after))
			got := r.String("Basic " + text)
			if !strings.Contains(got, Mask) || len(got) > len("Basic ")+len(Mask)+10 {
				t.Errorf("user %q: %q", user, got)
			}
		}
	}
}

func TestRedactorLeavesOtherTextAlone(t *testing.T) {
	r := NewRedactor(New("short"), New(""), New(canary))
	for _, text := range []string{"", "a short word", canary[:len(canary)-1], "C4C4C4narC4naryC0ffee", "\xff\xfe\x00"} {
		if got := r.String(text); got != text {
			t.Errorf("%q becomes %q", text, got)
		}
	}
	if got := new(Redactor).String(canary); got != canary {
		t.Errorf("a redactor that knows nothing makes %q", got)
	}
}

func TestRedactorPrefersTheLongerSecret(t *testing.T) {
	r := NewRedactor(New("abcdefgh"), New("abcdefghijkl"))
	for text, want := range map[string]string{
		"abcdefghijkl.": "***.", "abcdefghijk.": "***ijk.", "abcdefgabcdefgh": "abcdefg***", "abcdefghabcdefghijkl": "******",
	} {
		if got := r.String(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
}

func TestWriterGivesTheSameHoweverTheTextIsCut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		secrets := rapid.SliceOfN(rapid.StringMatching(`[ab]{8,10}`), 1, 3).Draw(t, "secrets")
		r := new(Redactor)
		for _, s := range secrets {
			r.Add(New(s))
		}
		parts := rapid.SliceOf(rapid.OneOf(rapid.StringMatching(`[abAB ]{0,4}`), rapid.SampledFrom(secrets))).Draw(t, "parts")
		text := strings.Join(parts, "")
		var out bytes.Buffer
		w := r.Writer(&out)
		for len(text) > 0 {
			n := rapid.IntRange(1, len(text)).Draw(t, "cut")
			if m, err := w.Write([]byte(text[:n])); m != n || err != nil {
				t.Fatalf("Write = %d, %v", m, err)
			}
			text = text[n:]
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		if got, want := out.String(), r.String(strings.Join(parts, "")); got != want {
			t.Errorf("in pieces %q, at once %q", got, want)
		}
		for _, s := range secrets {
			if strings.Contains(strings.ToLower(out.String()), s) {
				t.Errorf("%q shows in %q", s, out.String())
			}
		}
	})
}

func TestWriterHoldsNothingBackAtTheEndOfALine(t *testing.T) {
	var out bytes.Buffer
	w := NewRedactor(New(canary)).Writer(&out)
	fmt.Fprintf(w, "token %s refused\n", canary)
	if got := out.String(); got != "token *** refused\n" {
		t.Errorf("before Flush: %q", got)
	}
}
