package api

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
)

// authorization is the value of the header of that name. A nonce is used once.
func authorization(key string, unix int64, nonce string) string {
	return "key=" + key + ",timestamp=" + strconv.FormatInt(unix, 10) + ",nonce=" + nonce
}

// sign returns the signature of a request (contract 2.1). target is the path with its
// query, as they stand in the request line; method and host are not signed.
func sign(secret, authorization, target string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(authorization))
	mac.Write([]byte(target))
	mac.Write(body)
	return hex.EncodeToString(mac.Sum(nil))
}
