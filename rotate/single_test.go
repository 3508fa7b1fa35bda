package rotate_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"capagent/internal/packet"
	"capagent/internal/pcapio"
	"capagent/rotate"
	"capagent/rotate/pcapfile"
)

// single writes a file with one packet.
func single(t *testing.T, dir string) *rotate.Single {
	t.Helper()
	s, f, err := rotate.NewSingle(dir, "eth0/../x", time.Date(2026, 11, 22, 3, 15, 0, 0, time.UTC), pcapio.Pcapng)
	if err != nil {
		t.Fatal(err)
	}
	w, err := pcapfile.New(pcapfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := w.Begin(f, pcapfile.Header{Format: pcapio.Pcapng, Interfaces: []packet.Interface{{Name: "eth0", LinkType: 1}}}); err != nil {
		t.Fatal(err)
	}
	if err := w.Write([]packet.Packet{{Data: make([]byte, 60), Length: 60, Time: 1}}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.End(pcapfile.Trailer{}).Wait(); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSingleIsLeftAloneUntilItsWriterIsGone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	s := single(t, dir)
	salvaged := func() (paths []string) {
		if err := rotate.Salvage(dir, func(s rotate.Sealed) { paths = append(paths, s.Path) }); err != nil {
			t.Fatal(err)
		}
		return paths
	}
	if got := salvaged(); len(got) != 0 {
		t.Errorf("salvaged while it was held: %q", got)
	}
	path, err := s.Seal()
	if want := filepath.Join(dir, "eth0-..-x_20261122T031500.000000Z_000000.pcapng"); err != nil || path != want {
		t.Errorf("%q, %v; want %q", path, err, want)
	}

	gone := single(t, dir)
	if gone.Part() == path+rotate.Part {
		t.Error("the name was taken")
	}
	// A copy stands for the file of a process that was killed: nobody holds it.
	text, err := os.ReadFile(gone.Part())
	if err != nil {
		t.Fatal(err)
	}
	if err := gone.Remove(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(gone.Part(), text, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := salvaged(); len(got) != 1 || got[0] != strings.TrimSuffix(gone.Part(), rotate.Part) {
		t.Errorf("salvaged: %q", got)
	}
}
