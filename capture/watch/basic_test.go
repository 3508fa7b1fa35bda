package watch_test

import (
	"os"
	"path/filepath"
	"testing"

	"capagent/capture/watch"
)

// TestEverywhere is what every system must do.
func TestEverywhere(t *testing.T) {
	home, err := os.MkdirTemp("", "watch")
	must(t, err)
	defer func() { _ = os.RemoveAll(home) }()
	dir := filepath.Join(home, "folder")
	must(t, os.MkdirAll(filepath.Join(dir, "sub"), 0o700))
	write(t, filepath.Join(dir, "sub", "first.pcap"), "first")
	r := start(t, dir, func(o *watch.Options) { o.Config.Rescan = options(dir).Config.Settle })
	defer r.stop() // before the folder is removed
	r.expect(filepath.Join("sub", "first.pcap"), "first")

	f, err := os.Create(r.path("x.pcap"))
	must(t, err)
	_, err = f.WriteString("half ")
	must(t, err)
	r.rescan0()
	if got := r.contents("x.pcap"); got != nil && r.tellsWriters() {
		t.Errorf("taken under its writer: %q", got)
	}
	_, err = f.WriteString("and half")
	must(t, err)
	must(t, f.Close())
	r.last("x.pcap", "half and half")

	r.write("x.pcap", "other and half")
	r.last("x.pcap", "other and half")
	r.write("y.part", "y")
	must(t, os.Rename(r.path("y.part"), r.path("y.pcap")))
	r.last("y.pcap", "y")
	must(t, os.MkdirAll(r.path(filepath.Join("a", "b")), 0o700))
	r.write(filepath.Join("a", "b", "z.pcap"), "z")
	r.last(filepath.Join("a", "b", "z.pcap"), "z")
	r.rescan0()
	if len(r.contents("y.part")) > 0 {
		t.Error("a temporary name was taken")
	}
	t.Logf("%+v", r.w.Status())
}
