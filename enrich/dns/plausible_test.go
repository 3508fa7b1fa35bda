package dns_test

import (
	"encoding/hex"
	"math/rand/v2"
	"testing"

	"capagent/enrich/dns"
)

func TestPlausible(t *testing.T) {
	const query = "48c401000001000000000000" + "0132" + "09536543555265646e73" + "0561566173540343" + "6f4d00" + "00100001"
	const answer = "00068400000100010000000006" + "69746f6a756e036f726700" + "00ff0001" + "c00c000100010000003c0004" + "d2a05f61"
	for text, want := range map[string]bool{
		query: true, answer: true,
		query + "00":                    false, // something is behind it
		answer[:len(answer)-2]:          false,
		"48c40140" + query[8:]:          false, // a reserved bit
		query[:8] + "0002" + query[12:]: false,
		"":                              false,
	} {
		msg, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := dns.Plausible(msg); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
	noise := make([]byte, 200)
	random := rand.New(rand.NewPCG(1, 2))
	for range 100_000 {
		for i := range noise {
			noise[i] = byte(random.Uint32())
		}
		if dns.Plausible(noise) {
			t.Fatalf("%x", noise)
		}
	}
}
