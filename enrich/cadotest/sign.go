package cadotest

import (
	"context"
	"crypto/hmac"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

const maxSkew = 15 * time.Minute

// signature takes an Authorization header of SigV4 apart.
type signature struct {
	keyID, date, region, service string
	headers                      []string
	value                        string
}

func parseSignature(header string) (signature, bool) {
	var s signature
	rest, ok := strings.CutPrefix(header, "AWS4-HMAC-SHA256 ")
	if !ok {
		return s, false
	}
	for field := range strings.SplitSeq(rest, ",") {
		key, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		switch key {
		case "Credential":
			scope := strings.Split(value, "/")
			if len(scope) != 5 || scope[4] != "aws4_request" {
				return s, false
			}
			s.keyID, s.date, s.region, s.service = scope[0], scope[1], scope[2], scope[3]
		case "SignedHeaders":
			s.headers = strings.Split(value, ";")
		case "Signature":
			s.value = value
		}
	}
	return s, s.keyID != "" && s.value != "" && len(s.headers) > 0 && len(s.headers) <= 50
}

// checkSignature returns the code of what is wrong with a request's signature, ""
// when it is right: the request is signed once more, with the headers that it says
// were signed.
func (s *Store) checkSignature(r *http.Request) (code string) {
	got, ok := parseSignature(r.Header.Get("Authorization"))
	if !ok {
		return "AccessDenied"
	}
	if got.keyID != s.AccessKeyID {
		return "InvalidAccessKeyId"
	}
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if err != nil || s.opts.Now().Sub(at).Abs() > maxSkew {
		return "RequestTimeTooSkewed"
	}
	again := &http.Request{Method: r.Method, Host: r.Host, Header: http.Header{}, URL: &url.URL{
		Scheme: "http", Host: r.Host, Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery,
	}}
	for _, name := range got.headers {
		switch name {
		case "host":
		case "content-length":
			again.ContentLength = r.ContentLength
		default:
			if values := r.Header.Values(name); len(values) > 0 {
				again.Header[http.CanonicalHeaderKey(name)] = values
			}
		}
	}
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	who := aws.Credentials{AccessKeyID: s.AccessKeyID, SecretAccessKey: s.SecretAccessKey}
	if err := signer.SignHTTP(context.Background(), who, again, r.Header.Get("X-Amz-Content-Sha256"), got.service, got.region, at); err != nil {
		return "AccessDenied"
	}
	want, _ := parseSignature(again.Header.Get("Authorization"))
	if !hmac.Equal([]byte(want.value), []byte(got.value)) || got.service != "s3" {
		return "SignatureDoesNotMatch"
	}
	return ""
}
