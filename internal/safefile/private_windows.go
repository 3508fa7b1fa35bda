package safefile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/windows"
)

// systemOnly lets the system and administrators at a folder and at what is in it, and
// takes nothing over from above: below %ProgramData% every user may read and make files.
const systemOnly = "D:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)"

// MakePrivate makes dir where it is not there, and lets nobody but the system and
// administrators at it. A folder that another user made is refused: what lies there may
// be theirs, and a link would lead elsewhere.
func MakePrivate(dir string) error {
	if err := makePrivate(dir); err != nil {
		return fmt.Errorf("make %q private: %w", dir, err)
	}
	return nil
}

func makePrivate(dir string) error {
	sd, err := windows.SecurityDescriptorFromString(systemOnly)
	if err != nil {
		return err
	}
	name, err := Name(dir)
	if err != nil {
		return err
	}
	sa := &windows.SecurityAttributes{SecurityDescriptor: sd}
	sa.Length = uint32(unsafe.Sizeof(*sa))
	err = windows.CreateDirectory(name, sa)
	if errors.Is(err, fs.ErrNotExist) { // what is above is not ours
		if err = os.MkdirAll(filepath.Dir(dir), 0o700); err == nil {
			err = windows.CreateDirectory(name, sa)
		}
	}
	if err == nil || !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return errors.New("it is not a folder")
	}
	if err := trusted(dir); err != nil {
		return err
	}
	if has, err := windows.GetNamedSecurityInfo(dir, windows.SE_FILE_OBJECT, windows.DACL_SECURITY_INFORMATION); err != nil || sameList(has.String(), systemOnly) {
		return err // what is as it should be is not passed on to every file below once more
	}
	dacl, _, err := sd.DACL()
	if err != nil {
		return err
	}
	const what = windows.DACL_SECURITY_INFORMATION | windows.PROTECTED_DACL_SECURITY_INFORMATION
	return windows.SetNamedSecurityInfo(dir, windows.SE_FILE_OBJECT, what, nil, nil, dacl, nil)
}

// sameList compares two access lists that are protected, whatever else is said of them.
func sameList(a, b string) bool {
	flagsA, listA, _ := strings.Cut(a, "(")
	flagsB, listB, _ := strings.Cut(b, "(")
	return listA == listB && strings.HasPrefix(flagsA, "D:P") && strings.HasPrefix(flagsB, "D:P")
}

// trusted refuses a folder of somebody who could not have made it private: only the
// system, administrators, and who runs this are trusted.
func trusted(dir string) error {
	sd, err := windows.GetNamedSecurityInfo(dir, windows.SE_FILE_OBJECT, windows.OWNER_SECURITY_INFORMATION)
	if err != nil {
		return err
	}
	owner, _, err := sd.Owner()
	if err != nil {
		return err
	}
	self, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return err
	}
	if owner.IsWellKnown(windows.WinLocalSystemSid) || owner.IsWellKnown(windows.WinBuiltinAdministratorsSid) || owner.Equals(self.User.Sid) {
		return nil
	}
	who := owner.String()
	if account, domain, _, err := owner.LookupAccount(""); err == nil {
		who = domain + `\` + account
	}
	return fmt.Errorf("it belongs to %s, who may have put things there; look at them, and remove it: %w", who, fs.ErrPermission)
}
