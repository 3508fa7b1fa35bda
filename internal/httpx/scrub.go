package httpx

import (
	"encoding/base64"
	"net/url"
	"regexp"
)

// scrubber takes a secret out of text: exact in any case (tokens are
// case-insensitive), escaped for a URL, and in base64.
type scrubber struct{ re *regexp.Regexp }

func newScrubber(secret string) *scrubber {
	if secret == "" {
		return &scrubber{}
	}
	raw := []byte(secret)
	re := "(?i:" + regexp.QuoteMeta(secret) +
		"|" + regexp.QuoteMeta(url.PathEscape(secret)) +
		"|" + regexp.QuoteMeta(url.QueryEscape(secret)) +
		")|" + regexp.QuoteMeta(base64.RawStdEncoding.EncodeToString(raw)) + "={0,2}" +
		"|" + regexp.QuoteMeta(base64.RawURLEncoding.EncodeToString(raw)) + "={0,2}"
	return &scrubber{regexp.MustCompile(re)}
}

func (s *scrubber) text(t string) string {
	if s.re == nil {
		return t
	}
	return s.re.ReplaceAllLiteralString(t, "***")
}
