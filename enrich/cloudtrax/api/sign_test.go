package api

import "testing"

// The vectors of contract 2.1.
const (
	vectorKey    = "1b88730ac5ba6000a1271e0b2a2edb5a163ce77bf9630850f22f8ca3de490a5f"
	vectorSecret = "0032665e503e866e331408bdb1edf02041abc53d21f6b9d70ce4495bee1de31d"
)

func TestSignaturesAreThoseOfTheVectors(t *testing.T) {
	net, _ := ParseID("12345")
	cid, _ := ParseCID("V28hO3syPho0szL5dqDeoRDBtdv9_cofjMygMbpmstQ=")
	block := Block(net, cid, true)
	for _, v := range []struct {
		name, key, secret string
		unix              int64
		nonce, target     string
		body              []byte
		want              string
	}{
		{"CT-0", "api-key", "super-secret", 1700000000, "abc123", Networks().path.target, nil, "7614c0ac3d21a2da982fadf34fd49be4090456fbde0e8e3d89946e3a71fc9cab"},
		{"CT-1", vectorKey, vectorSecret, 1440424320, "ThisIsANonce", "/time", nil, "1c0c3778461bb015215bb5b5c4ff112b1c1e0a2681cf289668543dc69229ec05"},
		{"CT-2", vectorKey, vectorSecret, 1700000000, "0123456789abcdef0123456789abcdef", Clients(net).path.target, nil, "654424e4ff907f5e4de05d91b699af277b2011c50d5539b9ca8a8a3833c46149"},
		{"CT-2 without its query", vectorKey, vectorSecret, 1700000000, "0123456789abcdef0123456789abcdef", "/history/network/12345/clients", nil, "a7ee6b2b5050619b61fb08aa06e9e544804d2890d5e2acae5e587814e61a3b83"},
		{"CT-3", vectorKey, vectorSecret, 1700000300, "n-0001", block.path.target, block.body, "637afaab5de5bfff27f1fe37af2f88336f8069e39f24df4832f4a043c20f6fc8"},
		{"CT-3 without its body", vectorKey, vectorSecret, 1700000300, "n-0001", block.path.target, nil, "ddfd8d8ffbfde5daf5e417e6b8bfe0bf34fc5754eeb18488a8c8543757139955"},
	} {
		if got := sign(v.secret, authorization(v.key, v.unix, v.nonce), v.target, v.body); got != v.want {
			t.Errorf("%s: got %s, want %s", v.name, got, v.want)
		}
	}
	if len(block.body) != 73 {
		t.Errorf("the body of CT-3 has 73 bytes, ours %d: %s", len(block.body), block.body)
	}
}
