package cloudtraxtest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
	"time"

	"capagent/internal/lazy"
	"capagent/internal/standin"
)

const (
	maxSkew  = 15 * time.Minute
	keepFor  = 30 * time.Minute // nonces
	maxNonce = 32
)

var header = lazy.Regexp(`^key=([^,]*),timestamp=([0-9]{1,12}),nonce=([^,]+)$`)

// authenticate returns the code of a refusal, 0 when the request is signed well
// (contract 2.1). What is signed is the request line's target and the body, as they
// came.
func (s *Server) authenticate(c *standin.Call) (code int, text string) {
	who := c.R.Header.Get("Authorization")
	m := header().FindStringSubmatch(who)
	switch {
	case c.R.Header.Get("OpenMesh-API-Version") != "1":
		return 13004, "version invalid"
	case m == nil:
		return 13001, "no nonce or timestamp"
	case len(m[3]) > maxNonce:
		return 13012, "nonce too long"
	case m[1] != s.Key:
		return 13011, "unknown key"
	case c.R.Header.Get("Signature") == "":
		return 13015, "empty signature"
	}
	target := c.R.RequestURI
	if _, rest, ok := strings.Cut(target, "://"); ok && !strings.HasPrefix(target, "/") { // by a proxy
		_, path, _ := strings.Cut(rest, "/")
		target = "/" + path
	}
	mac := hmac.New(sha256.New, []byte(s.Secret))
	mac.Write([]byte(who + target))
	mac.Write(c.Body)
	if !hmac.Equal([]byte(hex.EncodeToString(mac.Sum(nil))), []byte(c.R.Header.Get("Signature"))) {
		s.Count("bad signature")
		return 13000, "signature wrong"
	}
	seconds, _ := strconv.ParseInt(m[2], 10, 64)
	if c.Now().Sub(time.Unix(seconds, 0)).Abs() > maxSkew {
		return 13002, "timestamp too old or in the future"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if at, ok := s.nonces[m[3]]; ok && now.Sub(at) < keepFor {
		s.Count("replay")
		return 13003, "nonce exists"
	}
	if len(s.nonces) >= 100_000 {
		for nonce, at := range s.nonces {
			if now.Sub(at) >= keepFor {
				delete(s.nonces, nonce)
			}
		}
	}
	s.nonces[m[3]] = now
	return 0, ""
}
