package secret

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

// vault keeps secrets in files, each sealed by DPAPI with the machine's key. That key is
// every program's on this machine: the folder's access list is what keeps them apart. It
// protects copies of the disk and backups.
type vault struct{ dir string }

// Vault is the folder of DPAPI's secrets. Who makes it sees to its access list.
func Vault() string { return machineVault().dir }

// machineVault is below %ProgramData%, as all that belongs to the service.
func machineVault() vault {
	root := os.Getenv("ProgramData")
	if root == "" {
		root = `C:\ProgramData`
	}
	return vault{filepath.Join(root, "capagent", "secrets")}
}

// path is the file of a name. Windows does not tell capitals from small letters, and
// keeps some names for devices.
func (v vault) path(name string) (string, error) {
	file := strings.ToLower(name) + ".dpapi"
	if !entryName.MatchString(name) || len(name) > maxName || !filepath.IsLocal(file) {
		return "", errors.New(`expected the name of a secret, as in "@{dpapi:name}"`)
	}
	return filepath.Join(v.dir, file), nil
}

func (v vault) keep(name string, value Secret) (err error) {
	path, err := v.path(name)
	if err != nil {
		return err
	}
	sealed, err := crypt(windows.CryptProtectData, []byte(value.Reveal()), name)
	if err != nil {
		return fmt.Errorf("sealing failed: %w", err)
	}
	f, err := os.CreateTemp(v.dir, "new-*.part")
	if err != nil {
		return bare(err)
	}
	_, err = f.Write(sealed)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return bare(err)
	}
	return nil
}

func (v vault) get(name string) (Secret, error) {
	path, err := v.path(name)
	if err != nil {
		return Secret{}, err
	}
	sealed, err := readSealed(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Secret{}, fmt.Errorf("%w; as administrator: capagent secret set %s", ErrNotKept, name)
	case errors.Is(err, fs.ErrPermission):
		return Secret{}, errors.New("only the service and administrators may read it")
	case err != nil:
		return Secret{}, bare(err)
	}
	text, err := crypt(windows.CryptUnprotectData, sealed, name)
	if err != nil {
		return Secret{}, fmt.Errorf("this machine can't open it (%w); as administrator: capagent secret set %s", err, name)
	}
	return New(string(text)), nil
}

func readSealed(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > 2*maxBytes {
		return nil, errors.New("this is not a sealed secret")
	}
	return os.ReadFile(path)
}

func (v vault) forget(name string) error {
	path, err := v.path(name)
	if err != nil {
		return err
	}
	if err := os.Remove(path); errors.Is(err, fs.ErrNotExist) {
		return ErrNotKept
	} else if err != nil {
		return bare(err)
	}
	return nil
}

// crypt seals or opens data. What is sealed under one name opens under no other.
func crypt[N any](do func(in *windows.DataBlob, n N, entropy *windows.DataBlob, _ uintptr, _ *windows.CryptProtectPromptStruct, flags uint32, out *windows.DataBlob) error, data []byte, name string) ([]byte, error) {
	if len(data) == 0 {
		return nil, errors.New("empty")
	}
	entropy := []byte("capagent " + strings.ToLower(name))
	in := windows.DataBlob{Size: uint32(len(data)), Data: &data[0]}
	mix := windows.DataBlob{Size: uint32(len(entropy)), Data: &entropy[0]}
	var out windows.DataBlob
	var none N
	const flags = windows.CRYPTPROTECT_LOCAL_MACHINE | windows.CRYPTPROTECT_UI_FORBIDDEN
	if err := do(&in, none, &mix, 0, nil, flags, &out); err != nil {
		return nil, err
	}
	defer func() { _, _ = windows.LocalFree(windows.Handle(unsafe.Pointer(out.Data))) }() //nolint:gosec // as the call wants it
	return append([]byte(nil), unsafe.Slice(out.Data, out.Size)...), nil                  //nolint:gosec // what the call made
}
