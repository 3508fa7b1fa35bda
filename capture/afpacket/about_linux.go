package afpacket

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// LinkType is the link type that a capture of the interface called name has now.
func LinkType(name string) (int, error) {
	s, err := openLinks()
	if err != nil {
		return 0, err
	}
	defer s.close()
	l, err := s.byName(name)
	return l.linkType, err
}

// Permitted returns why this process may not capture, nil when it may.
func Permitted() error {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("%w; %s", err, permissionHint)
	}
	return unix.Close(fd)
}
