package service

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"capagent/internal/audit"
	"capagent/internal/ledger"
	"capagent/internal/sums"
)

// shelf is a ledger with files that it has recorded.
type shelf struct {
	t   *testing.T
	dir string
	*ledger.Ledger
}

func newShelf(t *testing.T) *shelf {
	t.Helper()
	dir := t.TempDir()
	l, err := ledger.Open(t.Context(), filepath.Join(dir, "ledger.db"), ledger.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return &shelf{t, dir, l}
}

func (s *shelf) ok(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *shelf) path(name string) string { return filepath.Join(s.dir, name) }

// add makes and records a file whose content is its name.
func (s *shelf) add(name string, owned bool, state ledger.State) int64 {
	s.t.Helper()
	s.ok(os.WriteFile(s.path(name), []byte(name), 0o600))
	pair := sums.New()
	_, _ = pair.Write([]byte(name))
	f := ledger.Found{Source: "test", Path: s.path(name), Name: name, Destination: "https://c", Owned: owned, State: state}
	f.Size, f.SHA256, f.SHA1 = int64(len(name)), pair.SHA256(), pair.SHA1()
	r, err := s.Register(s.t.Context(), []ledger.Found{f})
	s.ok(err)
	return r[0].ID
}

func (s *shelf) drain() {
	s.t.Helper()
	s.ok(audit.New(s.Ledger, audit.Options{Dir: s.dir}).Drain(s.t.Context()))
}

func (s *shelf) verify(ids ...int64) (VerifyResult, []string) {
	s.t.Helper()
	var said []string
	r, err := Verify(s.t.Context(), s.Ledger, VerifyOptions{IDs: ids, OnCapture: func(e VerifyEntry) {
		said = append(said, e.Name+" "+string(e.Result))
	}})
	s.ok(err)
	return r, said
}

func TestVerifySaysWhatBecameOfEveryFile(t *testing.T) {
	s := newShelf(t)
	s.add("good.pcap", false, ledger.Queued)
	s.add("flipped.pcap", true, ledger.Queued)
	s.add("longer.pcap", false, ledger.Done)
	s.add("emptied.pcap", false, ledger.Held)
	s.add("lost.pcap", true, ledger.Queued)
	s.add("moved.pcap", false, ledger.Queued)
	purged := s.add("purged.pcap", true, ledger.Done)
	s.add("link.pcap", true, ledger.Queued)
	s.add("folder.pcap", false, ledger.Quarantined)
	s.add("open.pcap", true, ledger.StateOpen)
	s.ok(s.SetState(t.Context(), purged, ledger.Purged, ""))
	s.drain()
	if r, said := s.verify(); !r.OK() || len(said) != 10 || r.Captures[VerifiedOK] != 8 || r.Audit.Lines != 11 || !r.Ledger.OK {
		t.Fatalf("%+v, %q", r, said)
	}

	s.ok(os.WriteFile(s.path("flipped.pcap"), []byte("flippeD.pcap"), 0o600))
	s.ok(os.WriteFile(s.path("longer.pcap"), []byte("longer.pcap and more"), 0o600))
	s.ok(os.Truncate(s.path("emptied.pcap"), 0))
	s.ok(os.Remove(s.path("lost.pcap")))
	s.ok(os.Remove(s.path("moved.pcap")))
	s.ok(os.Remove(s.path("purged.pcap")))
	s.ok(os.Remove(s.path("folder.pcap")))
	s.ok(os.Mkdir(s.path("folder.pcap"), 0o700))
	link := "link.pcap unreadable"
	if runtime.GOOS == "windows" {
		link = "link.pcap ok"
	} else {
		s.ok(os.Rename(s.path("link.pcap"), s.path("elsewhere.pcap")))
		s.ok(os.Symlink(s.path("elsewhere.pcap"), s.path("link.pcap")))
	}
	r, said := s.verify()
	want := []string{
		"good.pcap ok", "flipped.pcap changed", "longer.pcap changed", "emptied.pcap changed", "lost.pcap missing",
		"moved.pcap gone", "purged.pcap purged", link, "folder.pcap unreadable", "open.pcap open",
	}
	if !slices.Equal(said, want) || r.OK() {
		t.Errorf("%q", said)
	}
	for answer, n := range map[Verified]int64{VerifiedOK: 1, VerifiedChanged: 3, VerifiedMissing: 1, VerifiedGone: 1} {
		if runtime.GOOS != "windows" && r.Captures[answer] != n {
			t.Errorf("%d are %s, want %d", r.Captures[answer], answer, n)
		}
	}

	t.Run("of those that are named alone", func(t *testing.T) {
		r, said := s.verify(6, 1)
		if !r.OK() || r.Ledger != nil || r.Audit != nil || !slices.Equal(said, []string{"moved.pcap gone", "good.pcap ok"}) {
			t.Errorf("%+v, %q", r, said)
		}
		if _, err := Verify(t.Context(), s.Ledger, VerifyOptions{IDs: []int64{1, 4711}}); !errors.Is(err, ledger.ErrNotFound) {
			t.Error(err)
		}
	})
	t.Run("with what was found", func(t *testing.T) {
		_, err := Verify(t.Context(), s.Ledger, VerifyOptions{IDs: []int64{2}, OnCapture: func(e VerifyEntry) {
			b, err := json.Marshal(e)
			if err != nil || !strings.Contains(string(b), `"found_sha256":"`) || e.FoundSHA256 == e.SHA256 || e.FoundSize != 12 || !e.Owned {
				t.Errorf("%s, %v", b, err)
			}
		}})
		s.ok(err)
	})
	t.Run("until it is interrupted", func(t *testing.T) {
		for _, ids := range [][]int64{nil, {1, 2}} {
			ctx, cancel := context.WithCancelCause(t.Context())
			stop := errors.New("stopped")
			_, err := Verify(ctx, s.Ledger, VerifyOptions{IDs: ids, OnBytes: func(int64) { cancel(stop) }})
			if !errors.Is(err, stop) && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
	})
}

// TestAFileThatIsMovedMeanwhileIsFound: the list that Verify walks is older than
// what the daemon does.
func TestAFileThatIsMovedMeanwhileIsFound(t *testing.T) {
	s := newShelf(t)
	s.add("first.pcap", true, ledger.Queued)
	moved, purged := s.add("moved.pcap", true, ledger.Queued), s.add("purged.pcap", true, ledger.Done)
	var said []string
	_, err := Verify(t.Context(), s.Ledger, VerifyOptions{OnCapture: func(e VerifyEntry) {
		if e.Name == "first.pcap" {
			s.ok(s.SetPath(t.Context(), moved, s.path("new.pcap")))
			s.ok(os.Rename(s.path("moved.pcap"), s.path("new.pcap")))
			s.ok(s.SetState(t.Context(), purged, ledger.Purged, ""))
			s.ok(os.Remove(s.path("purged.pcap")))
		}
		said = append(said, filepath.Base(e.Path)+" "+string(e.Result))
	}})
	s.ok(err)
	if want := []string{"first.pcap ok", "new.pcap ok", "purged.pcap purged"}; !slices.Equal(said, want) {
		t.Errorf("%q", said)
	}
}

func TestVerifyChecksTheLedgerAndItsLog(t *testing.T) {
	s := newShelf(t)
	s.add("a.pcap", true, ledger.Queued)
	s.drain()
	log := s.path(audit.Name)
	whole, err := os.ReadFile(log)
	s.ok(err)
	s.ok(os.WriteFile(log, append([]byte{whole[0] ^ 1}, whole[1:]...), 0o600))
	r, _ := s.verify()
	if r.OK() || r.Audit.Broken == nil || r.Audit.Broken.Line != 1 || r.Captures[VerifiedOK] != 1 {
		t.Errorf("%+v", r)
	}
	s.ok(os.WriteFile(log, whole, 0o600))
	if r, _ := s.verify(); !r.OK() {
		t.Errorf("%+v", r)
	}
	// A reader sees the same.
	look, err := ledger.Open(t.Context(), s.path("ledger.db"), ledger.Options{ReadOnly: true})
	s.ok(err)
	defer func() { s.ok(look.Close()) }()
	if r, err := Verify(t.Context(), look, VerifyOptions{}); err != nil || !r.OK() || r.Captures[VerifiedOK] != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}

// A ring writes the same file anew: what is there is the later capture.
func TestAFileThatWasWrittenAnewIsNoFailure(t *testing.T) {
	s := newShelf(t)
	first := s.add("ring.pcap", false, ledger.Done)
	s.ok(os.WriteFile(s.path("ring.pcap"), []byte("other"), 0o600))
	pair := sums.New()
	_, _ = pair.Write([]byte("other"))
	again := ledger.Found{Source: "test", Path: s.path("ring.pcap"), Name: "ring.pcap", Destination: "https://c", State: ledger.Queued}
	again.Size, again.SHA256, again.SHA1 = 5, pair.SHA256(), pair.SHA1()
	_, err := s.Register(t.Context(), []ledger.Found{again})
	s.ok(err)
	answers := map[int64]Verified{}
	result, err := Verify(t.Context(), s.Ledger, VerifyOptions{OnCapture: func(e VerifyEntry) { answers[e.ID] = e.Result }})
	s.ok(err)
	if answers[first] != VerifiedGone || result.Captures[VerifiedOK] != 1 {
		t.Errorf("%v: %+v", answers, result)
	}
}
