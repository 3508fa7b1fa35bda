package indicator

import (
	"encoding/hex"
	"net/netip"
	"regexp"
	"strings"
)

// Canonical returns text as a Set would keep it as an indicator of type t, and
// whether it can be one.
func Canonical(t Type, text string) (string, bool) {
	if len(text) > MaxValue {
		return "", false
	}
	var b []byte
	switch t {
	case Address:
		a, ok := literal([]byte(text))
		if !ok {
			return "", false
		}
		b = append(b, a.Unmap().WithZone("").String()...)
	case Host, LocalHost:
		if _, ok := literal([]byte(text)); ok {
			return "", false
		}
		b = appendHost(b, []byte(text))
	case URL:
		b = appendURL(b, []byte(text))
	case Email:
		b = appendEmail(b, []byte(text))
	case UserAgent:
		b = appendText(b, []byte(text))
	case File, Certificate, JA3:
		b = appendDigest(b, t, text)
	case JA4:
		if ja4.MatchString(strings.ToLower(text)) {
			b = append(b, text...)
		}
	}
	return string(b), len(b) > 0 && len(b) <= MaxValue
}

// ja4 is the form of a JA4 fingerprint: t13d1516h2_8daaf6152771_b186095e22b6.
var ja4 = regexp.MustCompile(`^[tqd][0-9a-z]{9}_[0-9a-f]{12}_[0-9a-f]{12}$`)

// digests are the lengths of the digests of each type, in bytes.
var digests = map[Type][]int{File: {16, 20, 32}, Certificate: {20, 32}, JA3: {16}}

func appendDigest(to []byte, t Type, text string) []byte {
	raw, err := hex.DecodeString(strings.ReplaceAll(text, ":", ""))
	if err != nil {
		return to
	}
	for _, n := range digests[t] {
		if len(raw) == n {
			return hex.AppendEncode(to, raw)
		}
	}
	return to
}

// defanged are the ways to write what must not become a link, and what they mean.
var defanged = strings.NewReplacer(
	"[.]", ".", "(.)", ".", "{.}", ".", "[dot]", ".", "(dot)", ".", "[DOT]", ".",
	"[:]", ":", "[://]", "://", "[/]", "/",
	"[@]", "@", "(@)", "@", "[at]", "@", "(at)", "@", "[AT]", "@",
)

// defangedScheme matches hxxp and hxxps in their ways, and meow.
var defangedScheme = regexp.MustCompile(`(?i)^(?:h[xt*]{2}p|meow)(s?):`)

// Refang returns the indicator that a person wrote so that it is no link:
// hxxp://example[.]com is http://example.com. Everything else stays as it is.
func Refang(text string) string {
	text = defanged.Replace(strings.TrimSpace(text))
	if !strings.Contains(text, "://") {
		return text
	}
	return defangedScheme.ReplaceAllString(text, "http$1:")
}

// Guess returns the types that an indicator as people write it may have.
func Guess(text string) []Type {
	if _, ok := Canonical(Address, text); ok {
		return []Type{Address}
	}
	if strings.Contains(text, "://") && !strings.ContainsAny(text, " \t") {
		return []Type{URL, UserAgent}
	}
	var all []Type
	for _, t := range []Type{File, Certificate, JA3, JA4} {
		if _, ok := Canonical(t, text); ok {
			all = append(all, t)
		}
	}
	if all != nil {
		return all
	}
	if _, ok := Canonical(Email, text); ok && !strings.ContainsAny(text, "/") {
		return []Type{Email}
	}
	if strings.ContainsAny(text, " /") {
		return []Type{UserAgent}
	}
	return []Type{Host, LocalHost, UserAgent}
}

// CanonicalPrefix returns a prefix of addresses in its one form.
func CanonicalPrefix(text string) (netip.Prefix, bool) {
	p, err := netip.ParsePrefix(strings.NewReplacer("[", "", "]", "").Replace(text))
	if err != nil || p.Addr().Is4In6() {
		return netip.Prefix{}, false
	}
	return p.Masked(), true
}
