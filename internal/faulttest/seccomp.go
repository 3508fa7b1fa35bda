//go:build linux

package faulttest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Hook decides what becomes of a system call. It is asked before the call
// happens, of one call at a time, in the order in which the threads came.
type Hook func(c Call) Action

// Action is what a Hook decides: let it be (the zero Action), kill the process
// before the call happens, or answer it with an error in the kernel's place.
type Action struct {
	Kill  bool
	Errno syscall.Errno
}

// Call is one system call that changes something outside the process: a file
// system, or the other end of a connection.
type Call struct {
	Name string // "fsync"
	Path string // what it is about; "tcp" for a connection
}

// Hooked is a process whose calls go by a Hook.
//
// strace counts the calls of each thread by themselves, so that "the fifth
// fsync" of a Go program is a different one in each run, or happens several
// times. Seccomp's user notification (man 2 seccomp_unotify) shows every call
// of every thread in one order, with its arguments.
type Hooked struct {
	*Process
	listener int
	hook     Hook
	done     chan struct{}
	err      error
}

// launchVar makes a test binary install the filter on itself and become the
// program in its arguments; see LaunchMain.
const launchVar = "FAULTTEST_LAUNCH"

// LaunchMain belongs first into TestMain: StartHooked starts the test binary
// again, which puts itself under the filter and then becomes the program.
func LaunchMain() {
	if os.Getenv(launchVar) == "" {
		return
	}
	_ = os.Unsetenv(launchVar)
	fmt.Fprintln(os.Stderr, "faulttest: launch:", launch(os.Args[1:]))
	os.Exit(126)
}

// launch installs the filter on this thread alone, so that another one can hand
// the listener over, and replaces the process.
func launch(argv []string) error {
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	filter := notifyFilter()
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	const flags = unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | waitKillable
	fd, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return fmt.Errorf("seccomp: %w", errno)
	}
	sent := make(chan error)
	go func() {
		sent <- unix.Sendmsg(3, []byte{0}, unix.UnixRights(int(fd)), nil, 0)
	}()
	if err := <-sent; err != nil {
		return fmt.Errorf("hand the listener over: %w", err)
	}
	unix.CloseOnExec(3)
	return syscall.Exec(argv[0], argv, os.Environ())
}

// waitKillable is SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV: Go's own signals do
// not make a call come twice.
const waitKillable = 1 << 5

// notifyFilter stops at the calls of hookedCalls; of the opening ones only at
// those that write.
func notifyFilter() []unix.SockFilter {
	const (
		load  = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		any   = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
		ret   = unix.BPF_RET | unix.BPF_K
	)
	const writes = unix.O_WRONLY | unix.O_RDWR | unix.O_CREAT
	f := []unix.SockFilter{{Code: load, K: 0}}
	for _, c := range hookedCalls {
		if c.flags < 0 {
			f = append(f, unix.SockFilter{Code: equal, Jf: 1, K: uint32(c.nr)},
				unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_USER_NOTIF})
			continue
		}
		f = append(f, unix.SockFilter{Code: equal, Jf: 4, K: uint32(c.nr)},
			unix.SockFilter{Code: load, K: uint32(16 + 8*c.flags)},
			unix.SockFilter{Code: any, Jf: 1, K: writes},
			unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_USER_NOTIF},
			unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ALLOW})
	}
	return append(f, unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ALLOW})
}

// StartHooked starts cmd under hook.
func StartHooked(cmd *exec.Cmd, hook Hook) (*Hooked, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	theirs := os.NewFile(uintptr(pair[1]), "launcher")
	defer unix.Close(pair[0])
	cmd.Args = append([]string{self, cmd.Path}, cmd.Args[1:]...)
	cmd.Path = self
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	cmd.Env = append(cmd.Env, launchVar+"=1")
	cmd.ExtraFiles = []*os.File{theirs}
	p, err := Start(cmd)
	_ = theirs.Close()
	if err != nil {
		return nil, err
	}
	listener, err := receiveFD(pair[0])
	if err != nil {
		p.Kill()
		return nil, fmt.Errorf("%w: %s", err, p.Ending())
	}
	h := &Hooked{Process: p, listener: listener, hook: hook, done: make(chan struct{})}
	go h.serve()
	return h, nil
}

func receiveFD(socket int) (int, error) {
	data, control := make([]byte, 1), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(socket, data, control, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return 0, err
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil || len(messages) == 0 {
		return 0, errors.Join(errors.New("the launcher sent no listener"), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return 0, errors.Join(errors.New("the launcher sent no listener"), err)
	}
	return fds[0], nil
}

// Wait waits until the process is gone and returns what went wrong in watching it.
func (h *Hooked) Wait() error {
	<-h.Ended()
	<-h.done
	return h.err
}

// notification is struct seccomp_notif.
type notification struct {
	ID    uint64
	PID   uint32 // of the thread
	Flags uint32
	Nr    int32
	Arch  uint32
	IP    uint64
	Args  [6]uint64
}

// response is struct seccomp_notif_resp.
type response struct {
	ID    uint64
	Val   int64
	Error int32
	Flags uint32
}

// serve answers until no process uses the filter any more.
func (h *Hooked) serve() {
	defer close(h.done)
	defer unix.Close(h.listener)
	for {
		poll := []unix.PollFd{{Fd: int32(h.listener), Events: unix.POLLIN}}
		if _, err := unix.Poll(poll, -1); err != nil && !errors.Is(err, unix.EINTR) {
			h.err = err
			return
		}
		if poll[0].Revents&unix.POLLIN == 0 {
			if poll[0].Revents != 0 {
				return
			}
			continue
		}
		var n notification
		if err := ioctl(h.listener, unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&n)); err != nil {
			if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINTR) {
				continue // the thread died
			}
			h.err = err
			return
		}
		h.answer(n)
	}
}

func (h *Hooked) answer(n notification) {
	r := response{ID: n.ID, Flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
	if c, ok := describe(n); ok {
		a := h.hook(c)
		if a.Kill {
			_ = unix.Kill(h.PID(), unix.SIGKILL)
			return
		}
		if a.Errno != 0 {
			r.Flags, r.Error = 0, -int32(a.Errno)
		}
	}
	_ = ioctl(h.listener, unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&r)) // ENOENT: it died meanwhile
}

func ioctl(fd int, request uint, arg unsafe.Pointer) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(request), uintptr(arg))
	if errno != 0 {
		return errno
	}
	return nil
}

// describe finds out what a call is about. ok is false for what stays inside
// the process or goes to its log: pipes, event counters, terminals.
func describe(n notification) (c Call, ok bool) {
	for _, k := range hookedCalls {
		if int32(k.nr) != n.Nr {
			continue
		}
		c.Name = k.name
		if k.path >= 0 {
			c.Path = readString(n.PID, n.Args[k.path])
			if !filepath.IsAbs(c.Path) && k.path > 0 {
				if dir, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", n.PID, int32(n.Args[k.path-1]))); err == nil {
					c.Path = filepath.Join(dir, c.Path)
				}
			}
			return c, !isDevice(c.Path)
		}
		target, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", n.PID, int32(n.Args[k.fd])))
		if err != nil {
			return c, false
		}
		switch {
		case strings.HasPrefix(target, "socket:"):
			c.Path = "socket"
			return c, true
		case isDevice(target), !strings.HasPrefix(target, "/"):
			return c, false
		}
		c.Path = strings.TrimSuffix(target, " (deleted)")
		return c, true
	}
	return c, false
}

func isDevice(path string) bool {
	for _, dir := range []string{"/dev/", "/proc/", "/sys/"} {
		if strings.HasPrefix(path, dir) {
			return !strings.HasPrefix(path, "/dev/shm/")
		}
	}
	return false
}

// readString reads a string of at most 4096 bytes out of a thread's memory.
func readString(pid uint32, at uint64) string {
	f, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		return ""
	}
	defer f.Close()
	b := make([]byte, 4096)
	n, _ := f.ReadAt(b, int64(at)) // short before an unmapped page
	if end := strings.IndexByte(string(b[:n]), 0); end >= 0 {
		return string(b[:end])
	}
	return string(b[:n])
}

// HooksWork says whether this kernel and user can do it, with the reason.
var HooksWork = sync.OnceValue(func() error {
	sizes := make([]byte, 6)
	_, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_GET_NOTIF_SIZES, 0, uintptr(unsafe.Pointer(&sizes[0])))
	if errno != 0 {
		return fmt.Errorf("seccomp notifications: %w", errno)
	}
	n, r := binary.NativeEndian.Uint16(sizes), binary.NativeEndian.Uint16(sizes[2:])
	if int(n) != int(unsafe.Sizeof(notification{})) || int(r) != int(unsafe.Sizeof(response{})) {
		return fmt.Errorf("seccomp notifications: the kernel's are of %d and %d bytes", n, r)
	}
	return nil
})
