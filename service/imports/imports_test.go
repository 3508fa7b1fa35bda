package imports

import (
	"encoding/csv"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"capagent/internal/failure"
	"capagent/internal/ledger"
)

func tree(t *testing.T, names ...string) string {
	t.Helper()
	root := t.TempDir()
	for _, name := range names {
		path := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func names(t *testing.T, roots ...string) []string {
	t.Helper()
	var got []string
	if err := walk(t.Context(), roots, func(f found) { got = append(got, filepath.ToSlash(f.name)) }); err != nil {
		t.Fatal(err)
	}
	slices.Sort(got)
	return got
}

func TestTheWalkMeetsEveryFileOnce(t *testing.T) {
	root := tree(t, "a", "b/c", "b/d/e", "b/d/f", ".hidden/g")
	want := []string{".hidden/g", "a", "b/c", "b/d/e", "b/d/f"}
	if got := names(t, root); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	// A root given twice, and one inside the other, whatever the order.
	inner := filepath.Join(root, "b", "d")
	want = []string{".hidden/g", "a", "b/c", "e", "f"}
	for _, roots := range [][]string{{root, root, inner}, {inner, root}} {
		if got := names(t, roots...); !slices.Equal(got, want) {
			t.Errorf("%q: %q", roots, got)
		}
	}
	if got := names(t, filepath.Join(root, "a")); !slices.Equal(got, []string{"a"}) {
		t.Errorf("a file as root: %q", got)
	}
	if err := walk(t.Context(), []string{filepath.Join(root, "none")}, func(found) {}); err == nil {
		t.Error("a missing root went unnoticed")
	}
}

func TestLinksAreFollowedOnlyWhereTheUserNamesThem(t *testing.T) {
	root, elsewhere := tree(t, "a"), tree(t, "secret")
	link := filepath.Join(root, "link")
	if err := os.Symlink(elsewhere, link); err != nil {
		t.Skip(err)
	}
	if got := names(t, root); !slices.Equal(got, []string{"a", "link"}) {
		t.Errorf("%q", got)
	}
	if got := names(t, link); !slices.Equal(got, []string{"secret"}) {
		t.Errorf("a link as root: %q", got)
	}
}

func TestInside(t *testing.T) {
	root := tree(t, "a", "sub/b")
	other := t.TempDir()
	for path, want := range map[string]bool{
		filepath.Join(root, "m.csv"):                  true,
		filepath.Join(root, "sub", "m.csv"):           true,
		filepath.Join(root, "sub", "..", "m.csv"):     true,
		filepath.Join(root, "..", "m.csv"):            false,
		filepath.Join(other, "m.csv"):                 false,
		root + "-m.csv":                               false,
		filepath.Join(root, "sub", "..", "..", "m.x"): false,
	} {
		if got := Inside(path, []string{root}); got != want {
			t.Errorf("Inside(%s) = %v", path, got)
		}
	}
	link := filepath.Join(other, "link")
	if err := os.Symlink(root, link); err == nil && !Inside(filepath.Join(link, "m.csv"), []string{root}) {
		t.Error("a way through a link went unnoticed")
	}
}

func TestTheOrderIsThatOfFirstPackets(t *testing.T) {
	at := func(s int64, path string) Entry {
		e := Entry{Capture: ledger.Capture{Path: path}}
		if s > 0 {
			e.First = time.Unix(s, 0)
		}
		return e
	}
	entries := []Entry{at(0, "none"), at(3, "c"), at(1, "b"), at(1, "a"), at(0, "empty")}
	slices.SortStableFunc(entries, byFirstPacket)
	var got []string
	for _, e := range entries {
		got = append(got, e.Path)
	}
	if want := "a b c empty none"; strings.Join(got, " ") != want {
		t.Errorf("%q", got)
	}
}

func TestSha256sumAcceptsTheManifestWhateverTheNames(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("sha256sum is a Unix program")
	}
	dir := t.TempDir()
	var entries []Entry
	for _, name := range []string{"plain", "with space ", "new\nline", `back\slash`, "cr\rreturn", "\xff\xfe", "-dash", "*star"} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		e := Entry{Capture: ledger.Capture{Path: path, State: ledger.Done}}
		e.SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" // of nothing
		entries = append(entries, e)
	}
	entries = append(entries, Entry{Capture: ledger.Capture{Path: filepath.Join(dir, "unreadable"), State: Unreadable}})
	sums := filepath.Join(t.TempDir(), "m.sha256")
	if err := WriteManifest(sums, entries); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "sha256sum", "-c", "--strict", sums).CombinedOutput()
	if err != nil || strings.Count(string(out), ": OK") != 8 {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestTheManifestTellsQuotedPathsAndReasons(t *testing.T) {
	e := Entry{
		Capture: ledger.Capture{Path: "/e/a\nb.pcap", State: ledger.Failed},
		Failure: &failure.Error{Kind: failure.Permanent, Class: "too_large", Err: errors.New("too large, they say")},
	}
	path := filepath.Join(t.TempDir(), "m.csv")
	if err := WriteManifest(path, []Entry{e}); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil || rows[1][0] != `"/e/a\nb.pcap"` || rows[1][10] != "too large, they say" {
		t.Errorf("%v: %q", err, rows)
	}
	if err := WriteManifest(filepath.Join(t.TempDir(), "none", "m.csv"), nil); err == nil {
		t.Error("a missing folder went unnoticed")
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".manifest-*")); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}
