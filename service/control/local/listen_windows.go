package local

import (
	"context"
	"errors"
	"os"
	"unsafe"

	"golang.org/x/sys/windows"
)

func listenSocket(context.Context, Where, Config) (*Listener, error) {
	return nil, errors.New("sockets are not used on Windows")
}

func checkPrivate(string) error { return errors.New("sockets are not used on Windows") }

// ownerOnly lets the system, administrators and the file's owner at a file, and
// takes nothing over from the directory, where %ProgramData% lets everybody read.
const ownerOnly = "D:P(A;;FA;;;SY)(A;;FA;;;BA)(A;;FA;;;OW)"

func createPrivate(path string) (*os.File, error) {
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return nil, err
	}
	sd, err := windows.SecurityDescriptorFromString(ownerOnly)
	if err != nil {
		return nil, err
	}
	sa := &windows.SecurityAttributes{SecurityDescriptor: sd}
	sa.Length = uint32(unsafe.Sizeof(*sa))
	h, err := windows.CreateFile(name, windows.GENERIC_WRITE, 0, sa, windows.CREATE_NEW, windows.FILE_ATTRIBUTE_NORMAL, 0)
	if err != nil {
		return nil, &os.PathError{Op: "create", Path: path, Err: err}
	}
	return os.NewFile(uintptr(h), path), nil
}

// refused says that nobody listens at an address.
func refused(err error) bool { return errors.Is(err, windows.WSAECONNREFUSED) }

func groupOf(string) string { return "" }
