package httpx

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"

	"capagent/internal/safefile"
)

const maxCAFile = 4 << 20

func tlsConfig(caFile string, pins []string) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile != "" {
		pool, err := readCA(caFile)
		if err != nil {
			return nil, err
		}
		config.RootCAs = pool
	}
	if len(pins) == 0 {
		return config, nil
	}
	known := make(map[[sha256.Size]byte]bool, len(pins))
	for _, p := range pins {
		sum, err := ParsePin(p)
		if err != nil {
			return nil, err
		}
		known[sum] = true
	}
	// VerifyConnection runs after the normal verification, and for resumed
	// sessions too.
	config.VerifyConnection = func(state tls.ConnectionState) error {
		for _, chain := range state.VerifiedChains {
			for _, cert := range chain {
				if known[sha256.Sum256(cert.RawSubjectPublicKeyInfo)] {
					return nil
				}
			}
		}
		return &pinError{got: pin(state.PeerCertificates[0])}
	}
	return config, nil
}

func readCA(path string) (*x509.CertPool, error) {
	f, _, err := safefile.Open(path)
	if err != nil {
		return nil, fmt.Errorf("ca_file: %w", err)
	}
	defer func() { _ = f.Close() }()
	pem, err := io.ReadAll(io.LimitReader(f, maxCAFile))
	if err != nil {
		return nil, fmt.Errorf("ca_file: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("ca_file: %q holds no PEM certificate", path)
	}
	return pool, nil
}

var errPin = errors.New(`a pin is "sha256/" and 44 characters of base64`)

// ParsePin returns the digest in a pin of the form "sha256/BASE64".
func ParsePin(s string) (sum [sha256.Size]byte, err error) {
	text, ok := strings.CutPrefix(s, "sha256/")
	if !ok {
		return sum, errPin
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) != len(sum) {
		return sum, errPin
	}
	copy(sum[:], raw)
	return sum, nil
}

func pin(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return "sha256/" + base64.StdEncoding.EncodeToString(sum[:])
}

type pinError struct{ got string }

func (e *pinError) Error() string {
	return "no configured pin is in the server's certificate chain; its own key is " + e.got
}
