package traffic

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What ethtool -K calls rx, tx, tso, gso, gro.
var offloads = []uint32{
	unix.ETHTOOL_SRXCSUM, unix.ETHTOOL_STXCSUM, unix.ETHTOOL_STSO, unix.ETHTOOL_SGSO, unix.ETHTOOL_SGRO,
}

type ethtoolValue struct{ cmd, data uint32 }

type ifreqData struct {
	name [unix.IFNAMSIZ]byte
	data unsafe.Pointer
	_    [16]byte // an ifreq is larger than a pointer
}

// setOffloads turns off what an interface would do with packets on its own, so
// that what is captured is what was sent; or all of it on.
func setOffloads(name string, on bool) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("set offloads of %s: %w", name, err)
	}
	defer func() { _ = unix.Close(fd) }()
	for _, cmd := range offloads {
		value := ethtoolValue{cmd: cmd}
		if on {
			value.data = 1
		}
		req := ifreqData{data: unsafe.Pointer(&value)}
		copy(req.name[:unix.IFNAMSIZ-1], name)
		_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req)))
		if e != 0 && !errors.Is(e, unix.EOPNOTSUPP) {
			return fmt.Errorf("set offloads of %s: %w", name, e)
		}
	}
	return nil
}
