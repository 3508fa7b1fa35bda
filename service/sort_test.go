package service

import (
	"path/filepath"
	"testing"
)

func TestNamesThatPromiseACapture(t *testing.T) {
	for name, want := range map[string]bool{
		"a.pcap": true, "A.PCAPNG": true, "x.cap": true, "x.dmp": true, "x.pcap.gz": true, "x.pcapng.zst": true,
		"x.pcap1": true, "x.pcap.20260102": true, "trace.pcap_old": true,
		"README.md": false, "notes.txt": false, "cap": false, "x.gz": false, "pcap": false,
	} {
		if got := LooksLikeCapture(filepath.Join("dir.pcap", name)); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// tree makes files (content = name) and returns its root.
