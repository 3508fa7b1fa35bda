package threatconnecttest

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The messages that the contract quotes (contracts/threatconnect.md 2.2).
const (
	msgNotFound     = "The requested resource was not found"
	msgNoOwner      = "The requested owner was not found"
	msgDenied       = "Access Denied"
	msgSignature    = "Signature data did not match expected result"
	msgOldTimestamp = "Timestamp out of acceptable time range"
	msgBadTimestamp = "Invalid timestamp"
	msgMalformed    = "The request was not properly formed"
	msgUnlicensed   = "API access has not been licensed for this system, please contact your administrator"
	msgUnknown      = "An unknown error occurred"
	msgUnauthorized = "Unauthorized"
	msgReplay       = "The request was already processed"
)

// maxSkew is how far a Timestamp may be from the server's clock.
const maxSkew = 5 * time.Minute

// signature is what a request must carry: over the request line as it was sent,
// not over what any parser makes of it.
func signature(secret, target, method, timestamp string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(target + ":" + method + ":" + timestamp))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// authenticate says who asks, as "hmac" or "token". The error is worded as v2
// does; v3 says less, see call.fail.
func (s *Server) authenticate(r *http.Request, now time.Time) (string, *apiError) {
	scheme, rest, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	switch scheme {
	case "TC":
		return "hmac", s.checkSignature(r, rest, now)
	case "TC-Token":
		for _, t := range s.opts.Tokens {
			if t.Value != "" && subtle.ConstantTimeCompare([]byte(t.Value), []byte(rest)) == 1 &&
				(t.Expires.IsZero() || now.Before(t.Expires)) {
				return "token", nil
			}
		}
		return "", unauthorized(msgUnauthorized)
	default:
		return "", unauthorized(msgUnauthorized)
	}
}

func (s *Server) checkSignature(r *http.Request, credentials string, now time.Time) *apiError {
	id, given, ok := strings.Cut(credentials, ":")
	if !ok || id != s.AccessID {
		return unauthorized(msgDenied)
	}
	stamp := r.Header.Get("Timestamp")
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	switch {
	case err != nil || seconds < 0 || seconds > 1<<40:
		return unauthorized(msgBadTimestamp)
	case now.Sub(time.Unix(seconds, 0)).Abs() > maxSkew:
		return unauthorized(msgOldTimestamp)
	}
	want := signature(s.SecretKey, requestTarget(r), r.Method, stamp)
	if subtle.ConstantTimeCompare([]byte(want), []byte(given)) != 1 {
		return unauthorized(msgSignature)
	}
	return nil
}

// requestTarget is path and query as they came over the socket. A client behind
// a forward proxy sends the absolute form (RFC 9112 3.2.2) and signs the rest.
func requestTarget(r *http.Request) string {
	target := r.RequestURI
	if _, rest, ok := strings.Cut(target, "://"); ok && !strings.HasPrefix(target, "/") {
		if i := strings.IndexAny(rest, "/?"); i >= 0 {
			return rest[i:]
		}
		return "/"
	}
	return target
}

func unauthorized(message string) *apiError {
	return &apiError{status: http.StatusUnauthorized, code: "0x1002", message: message}
}

// replayed counts a write that was signed and said once before.
func (s *Server) replayed(r *http.Request, body []byte) bool {
	if r.Method == http.MethodGet || r.Header.Get("Timestamp") == "" {
		return false
	}
	sum := sha256.Sum256([]byte(r.Header.Get("Authorization") + "\n" + r.RequestURI + "\n" + string(body)))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.writes[string(sum[:])] {
		s.counters.Replays++
		return true
	}
	if len(s.writes) < s.opts.KeepRequests*10 {
		s.writes[string(sum[:])] = true
	}
	return false
}
