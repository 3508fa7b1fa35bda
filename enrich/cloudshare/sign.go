package cloudshare

import (
	"crypto/rand"
	"crypto/sha1"
	"encoding/hex"
	"strconv"
	"time"

	"capagent/internal/secret"
)

const (
	tokenSize  = 10
	tokenChars = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
)

// sign returns the hmac of a request (contracts/cloudshare-cloudtrax.md 1.1): plain
// SHA-1 over a concatenation. url is what is sent, byte for byte; method and body are
// not signed.
func sign(key, url string, unix int64, token string) string {
	sum := sha1.Sum([]byte(key + url + strconv.FormatInt(unix, 10) + token))
	return hex.EncodeToString(sum[:])
}

// authorization is the header of a request for url at that time.
func authorization(id string, key secret.Secret, url string, at time.Time, token string) string {
	unix := at.Unix()
	return "cs_sha1 userapiid:" + id + ";timestamp:" + strconv.FormatInt(unix, 10) +
		";token:" + token + ";hmac:" + sign(key.Reveal(), url, unix, token)
}

// newToken returns what no request had before.
func newToken() string {
	const fair = 256 - 256%len(tokenChars) // above it the first characters would come more often
	token := make([]byte, 0, tokenSize)
	var random [2 * tokenSize]byte
	for len(token) < tokenSize {
		_, _ = rand.Read(random[:]) // never fails: crypto/rand's own promise
		for _, b := range random {
			if int(b) < fair && len(token) < tokenSize {
				token = append(token, tokenChars[int(b)%len(tokenChars)])
			}
		}
	}
	return string(token)
}
