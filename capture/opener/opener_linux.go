package opener

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"capagent/internal/confine"
)

// childFD is the child's end: the first of exec.Cmd.ExtraFiles.
const childFD = 3

// Opener is the parent's side: it opens sockets by its child. It is safe for concurrent
// use.
type Opener struct {
	mu    sync.Mutex
	conn  int
	child *os.Process
	gone  chan struct{}
}

// begin has the end of the child noticed; Close waits for it.
func begin(conn int, child *os.Process) *Opener {
	o := &Opener{conn: conn, child: child, gone: make(chan struct{})}
	go func() {
		defer close(o.gone)
		_, _ = child.Wait() // how it ended tells nothing that its own line has not told
	}()
	return o
}

// handed is the variable that tells a program that was started anew by Restart of its
// opener: "<file descriptor> <pid>".
const handed = "CAPAGENT_PACKET_SOCKETS"

// Handed returns the opener of a program that Restart has started anew, nil of another.
func Handed() *Opener {
	var conn, pid int
	_, err := fmt.Sscanf(os.Getenv(handed), "%d %d", &conn, &pid)
	if os.Unsetenv(handed) != nil || err != nil || conn <= 2 || pid <= 1 {
		return nil
	}
	unix.CloseOnExec(conn)
	child, err := os.FindProcess(pid)
	if err != nil {
		return nil
	}
	return begin(conn, child)
}

// Restart starts this program anew, as the same process, without the ambient capabilities
// to capture and to change the network: by that it loses them (capabilities(7)), also where
// a filter of system calls keeps it from dropping them. It returns only when that fails.
func (o *Opener) Restart() error {
	runtime.LockOSThread() // a capability belongs to a thread, and this one goes on
	defer runtime.UnlockOSThread()
	for _, right := range []uintptr{unix.CAP_NET_RAW, unix.CAP_NET_ADMIN} {
		if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_LOWER, right, 0, 0); err != nil {
			return fmt.Errorf("lower ambient capabilities: %w", err)
		}
	}
	if _, err := unix.FcntlInt(uintptr(o.conn), unix.F_SETFD, 0); err != nil {
		return err
	}
	env := append(os.Environ(), fmt.Sprintf("%s=%d %d", handed, o.conn, o.child.Pid))
	err := unix.Exec("/proc/self/exe", os.Args, env)
	unix.CloseOnExec(o.conn)
	return fmt.Errorf("start anew: %w", err)
}

// Start starts the child, which is this program with Argument, and has it ready. It gets
// no environment and no open file but its end of the connection.
func Start(ctx context.Context) (*Opener, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("packet sockets: %w", err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "opener")
	defer func() { _ = theirs.Close() }()
	child := exec.CommandContext(context.WithoutCancel(ctx), "/proc/self/exe", Argument)
	child.Env, child.ExtraFiles, child.Stderr = []string{}, []*os.File{theirs}, os.Stderr
	child.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // the terminal's Ctrl-C is for the agent; the child ends with the connection
	if err := child.Start(); err != nil {
		_ = unix.Close(pair[0])
		return nil, fmt.Errorf("packet sockets: %w", err)
	}
	o := begin(pair[0], child.Process)
	fd, err := o.Socket(false)
	if err != nil {
		return nil, errors.Join(err, o.Close())
	}
	return o, unix.Close(fd)
}

// PID is the child's.
func (o *Opener) PID() int { return o.child.Pid }

// Gone is closed when the child has ended. There is no other one: what it may do nobody
// else may any more.
func (o *Opener) Gone() <-chan struct{} { return o.gone }

// Socket opens a packet socket that does not block and is closed on exec: SOCK_RAW, or
// SOCK_DGRAM when cooked. It is bound to nothing yet.
func (o *Opener) Socket(cooked bool) (fd int, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	ask := []byte{askRaw}
	if cooked {
		ask[0] = askCooked
	}
	if _, err := unix.Write(o.conn, ask); err != nil {
		return -1, fmt.Errorf("socket: the process that may open it is gone: %w", err)
	}
	if err := answered(o.conn); err != nil {
		return -1, err
	}
	var reply [8]byte
	rights := make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := unix.Recvmsg(o.conn, reply[:], rights, unix.MSG_CMSG_CLOEXEC)
	if err != nil || n == 0 {
		return -1, fmt.Errorf("socket: the process that may open it is gone: %w", errors.Join(err))
	}
	if errno := syscall.Errno(reply[0]); errno != 0 {
		return -1, fmt.Errorf("socket: %w", errno)
	}
	messages, err := unix.ParseSocketControlMessage(rights[:oobn])
	if err != nil || len(messages) != 1 {
		return -1, errors.New("socket: none was handed over")
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return -1, errors.New("socket: none was handed over")
	}
	return fds[0], nil
}

// answered waits for an answer, for a few seconds at most.
func answered(conn int) error {
	const patience = 5 * time.Second
	poll := []unix.PollFd{{Fd: int32(conn), Events: unix.POLLIN}}
	for end := time.Now().Add(patience); ; {
		n, err := unix.Poll(poll, int(time.Until(end).Milliseconds()))
		switch {
		case errors.Is(err, unix.EINTR) && time.Now().Before(end):
		case err != nil:
			return fmt.Errorf("socket: %w", err)
		case n == 0:
			return errors.New("socket: the process that may open it does not answer")
		default:
			return nil
		}
	}
}

// Close ends the child.
func (o *Opener) Close() error {
	err := unix.Close(o.conn)
	_ = o.child.Kill()
	<-o.gone
	return err
}

// Serve is the child's life: it opens what it is asked for until its parent is gone. It
// keeps no other right than CAP_NET_RAW, and no system call but for this. Where the system
// lets it have one of these bounds only, that will do; a missing filter is told.
func Serve(told func(error)) error {
	const want = 1 << unix.CAP_NET_RAW
	_, effective, more := capabilities()
	if more == nil && effective != want {
		more = keep(want)
	}
	if err := noNewPrivileges(); err != nil {
		return err
	}
	switch err := confine.PacketSockets(); {
	case err != nil && more != nil:
		return more
	case err != nil:
		told(err)
	}
	// What it may have beside CAP_NET_RAW, as a service's filter of system calls keeps it
	// from dropping anything, it has no system call for.
	var ask [1]byte
	for {
		n, err := unix.Read(childFD, ask[:])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n == 0 {
			return err
		}
		typ := unix.SOCK_RAW
		if ask[0] == askCooked {
			typ = unix.SOCK_DGRAM
		}
		if err := hand(typ); err != nil {
			return err
		}
	}
}

// hand opens a socket and hands it over, or says why it can't.
func hand(typ int) error {
	// Protocol 0: the socket gets nothing before it is bound.
	fd, err := unix.Socket(unix.AF_PACKET, typ|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		errno := syscall.EIO
		_ = errors.As(err, &errno)
		return unix.Sendmsg(childFD, []byte{byte(errno)}, nil, nil, unix.MSG_NOSIGNAL)
	}
	err = unix.Sendmsg(childFD, []byte{0}, unix.UnixRights(fd), nil, unix.MSG_NOSIGNAL)
	return errors.Join(err, unix.Close(fd))
}

// Drop takes the rights to capture and to change the network from this process, all its
// threads, for good. It fails with ErrUnsupported in a build with cgo.
func Drop() error {
	_, effective, err := capabilities()
	if err != nil {
		return err
	}
	return keep(effective &^ (1<<unix.CAP_NET_RAW | 1<<unix.CAP_NET_ADMIN))
}

// May says whether this process has the right to capture as a capability, and is not
// root, whose other capabilities are what lets it read files.
func May() bool {
	_, effective, err := capabilities()
	return err == nil && os.Geteuid() != 0 && effective&(1<<unix.CAP_NET_RAW) != 0
}

func capabilities() (header unix.CapUserHeader, effective uint64, err error) {
	header.Version = unix.LINUX_CAPABILITY_VERSION_3
	var data [2]unix.CapUserData
	err = unix.Capget(&header, &data[0])
	return header, uint64(data[1].Effective)<<32 | uint64(data[0].Effective), err
}

// keep drops all capabilities but these, on all threads: a capability belongs to a
// thread (capabilities(7)).
func keep(these uint64) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	for i := range data {
		part := uint32(these >> (32 * i))
		data[i] = unix.CapUserData{Effective: part, Permitted: part}
	}
	// Ambient ones go with the others (capabilities(7)).
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data[0])), 0) //nolint:gosec // capset takes two pointers
	if errno != 0 {
		return unsupported("drop capabilities", errno)
	}
	return nil
}

func noNewPrivileges() error {
	if _, _, errno := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0); errno != 0 {
		return unsupported("no new privileges", errno)
	}
	return nil
}

func unsupported(what string, errno syscall.Errno) error {
	if errno == syscall.ENOTSUP { // cgo has threads that Go does not know
		return fmt.Errorf("%s: %w", what, ErrUnsupported)
	}
	return fmt.Errorf("%s: %w", what, errno)
}
