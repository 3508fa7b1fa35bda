package safefile

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/windows"
)

func TestAFileThatIsReadCanBeRenamedAndDeleted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ring_00001.pcap")
	if err := os.WriteFile(path, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, info, err := Open(path)
	if err != nil || info.Size() != 7 {
		t.Fatalf("%v, %v", info, err)
	}
	defer func() { _ = f.Close() }()
	if err := os.Rename(path, path+".old"); err != nil {
		t.Error(err)
	}
	if err := os.Remove(path + ".old"); err != nil {
		t.Error(err)
	}
	text := make([]byte, 7)
	if _, err := f.Read(text); err != nil || string(text) != "content" {
		t.Errorf("%q, %v", text, err)
	}
}

func TestOpenRefusesADirectory(t *testing.T) {
	if f, _, err := Open(t.TempDir()); !errors.Is(err, ErrNotRegular) {
		t.Errorf("%v, %v", f, err)
	}
}

func TestLongNames(t *testing.T) {
	long := strings.Repeat(`\folder`, 40)
	for path, want := range map[string]string{
		`C:\a.pcap`:             `C:\a.pcap`,
		`C:` + long:             `\\?\C:` + long,
		`C:/x/..` + long:        `\\?\C:` + long,
		`\\server\share` + long: `\\?\UNC\server\share` + long,
		`\\?\C:` + long:         `\\?\C:` + long,
	} {
		name, err := Name(path)
		if err != nil || windows.UTF16PtrToString(name) != want {
			t.Errorf("%s: %s, %v", path, windows.UTF16PtrToString(name), err)
		}
	}
	path := filepath.Join(t.TempDir(), strings.Repeat("x", 150), strings.Repeat("y", 150)+".pcap")
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	f, _, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
}
