package safefile

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/windows"
)

func TestOnWindowsAPrivateFolderIsTheSystemsAndAdministrators(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	if err := os.MkdirAll(filepath.Join(filepath.Dir(dir), "made before"), 0o777); err != nil {
		t.Fatal(err)
	}
	wine := windows.NewLazySystemDLL("ntdll.dll").NewProc("wine_get_version").Find() == nil
	for i, dir := range []string{dir, dir, filepath.Join(filepath.Dir(dir), "made before")} {
		if err := MakePrivate(dir); err != nil {
			t.Fatal(err)
		}
		sd, err := windows.GetNamedSecurityInfo(dir, windows.SE_FILE_OBJECT, windows.DACL_SECURITY_INFORMATION)
		if err != nil {
			t.Fatal(err)
		}
		list := sd.String()
		// Wine gives a folder that is there its parent's list besides, protected or not.
		if others := strings.Contains(list, ";WD)") || strings.Contains(list, ";BU)"); others && (i == 0 || !wine) {
			t.Errorf("%s: %s", dir, list)
		}
		t.Log(list)
		if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
			t.Errorf("we are locked out: %v", err)
		}
	}
	if err := MakePrivate(filepath.Join(dir, "file")); err == nil {
		t.Error("a file is taken for a folder")
	}
}

func TestOnWindowsListsAreComparedWithoutWhatWindowsAdds(t *testing.T) {
	for list, want := range map[string]bool{
		"D:PAI(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)": true,
		"D:AI(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)":  false,
		"D:PAI(A;OICI;FA;;;SY)":                 false,
		systemOnly + "(A;;FR;;;WD)":             false,
	} {
		if sameList(list, systemOnly) != want {
			t.Errorf("%s: %v", list, !want)
		}
	}
}
