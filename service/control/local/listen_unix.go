//go:build unix

package local

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"capagent/internal/quote"
)

// listenSocket makes the socket inside of a directory that only its owner may
// enter, gives it its group and mode there, and moves it to its place. So there
// is no moment at which the process's umask decides who may connect.
func listenSocket(ctx context.Context, w Where, cfg Config) (*Listener, error) {
	gid, err := groupID(cfg.Group)
	if err != nil {
		return nil, err
	}
	dir := filepath.Dir(w.Socket)
	if err := makeDir(dir, w.Private); err != nil {
		return nil, err
	}
	if err := vacant(ctx, w.Socket); err != nil {
		return nil, err
	}
	workshop, err := makeWorkshop(dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(workshop) }() // empty, unless this failed
	made := filepath.Join(workshop, "s")
	inner, err := (&net.ListenConfig{}).Listen(ctx, "unix", made)
	if err != nil {
		return nil, err
	}
	inner.(*net.UnixListener).SetUnlinkOnClose(false) // it will be elsewhere
	l := &Listener{Listener: inner, path: w.Socket}
	if gid >= 0 && !hasGroup(made, gid) { // a hardened service may not even change what stays the same
		err = os.Chown(made, -1, gid)
	}
	if err == nil {
		err = os.Chmod(made, 0o660)
	}
	if err == nil {
		l.made, err = os.Lstat(made)
	}
	if err == nil {
		err = os.Rename(made, w.Socket)
	}
	if err != nil {
		return nil, errors.Join(err, inner.Close())
	}
	return l, nil
}

func hasGroup(path string, gid int) bool {
	info, err := os.Lstat(path)
	if err != nil {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && uint64(st.Gid) == uint64(gid)
}

// groupID returns -1 for "".
func groupID(group string) (int, error) {
	if group == "" {
		return -1, nil
	}
	if n, err := strconv.ParseUint(group, 10, 31); err == nil {
		return int(n), nil
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return -1, fmt.Errorf("no group %s on this machine; [control] group also takes its number", quote.Path(group))
	}
	return strconv.Atoi(g.Gid)
}

// makeDir makes the socket's directory where it is missing. One that is not
// Private may be entered by everybody, unless one above it says otherwise: the
// socket's own mode says who may connect.
func makeDir(dir string, private bool) error {
	mode := fs.FileMode(0o755)
	if private {
		mode = 0o700
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return err
	}
	if err := os.Mkdir(dir, mode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if private {
		return checkPrivate(dir)
	}
	return nil
}

// checkPrivate refuses a directory that somebody else made, or could write to:
// it lies where everybody may make one of that name.
func checkPrivate(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || !ok || int64(stat.Uid) != int64(os.Getuid()) || info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s is not a directory of this user alone; remove it, or set [control] socket", quote.Path(dir))
	}
	return nil
}

// vacant says whether path may be taken: nothing is there, or a socket that
// nobody listens on.
func vacant(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return errors.New("something else than a socket is there; remove it, or set [control] socket")
	}
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "unix", path)
	if err == nil {
		_ = conn.Close() // only wanted to know
	}
	if err == nil || !refused(err) {
		return errors.New("another agent listens there; give each a [control] socket of its own")
	}
	return nil
}

// makeWorkshop makes a directory for the owner alone, by a name that is short:
// it counts towards the length of the socket's path.
func makeWorkshop(dir string) (string, error) {
	for tries := 0; ; tries++ {
		var raw [2]byte
		_, _ = rand.Read(raw[:]) // never fails, by its documentation
		path := filepath.Join(dir, ".c"+hex.EncodeToString(raw[:]))
		err := os.Mkdir(path, 0o700)
		if err == nil || !errors.Is(err, fs.ErrExist) || tries == 100 {
			return path, err
		}
	}
}

func createPrivate(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, privateMode)
}

// refused says that nobody listens at an address.
func refused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }

// groupOf returns the name of the group that a file belongs to, "" when unknown.
func groupOf(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return ""
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	gid := strconv.FormatUint(uint64(stat.Gid), 10)
	if g, err := user.LookupGroupId(gid); err == nil {
		return g.Name
	}
	return gid
}
