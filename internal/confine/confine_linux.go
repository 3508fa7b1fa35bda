package confine

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"

	"github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"

	"capagent/internal/quote"
)

// The rights that are bounded: to change files, and to start programs. A log that the
// kernel writes of what was refused stays on: it is how a break-in is noticed.
const changes = landlock.AccessFSSet(ll.AccessFSWriteFile | ll.AccessFSTruncate | ll.AccessFSRemoveDir | ll.AccessFSRemoveFile |
	ll.AccessFSMakeChar | ll.AccessFSMakeDir | ll.AccessFSMakeReg | ll.AccessFSMakeSock | ll.AccessFSMakeFifo | ll.AccessFSMakeBlock | ll.AccessFSMakeSym |
	ll.AccessFSRefer)

// leastLandlock is the first version that lets files be moved between directories
// (kernel 5.19); without that the agent can't do its work.
const leastLandlock = 2

// Self confines this process, all its threads. There is no way back. What can't be had
// is said in the state, and is no reason not to run.
//
// All threads take part, so none may hang in the kernel: it is called before anything
// looks into directories of others.
func Self(b Bounds) State {
	s := State{Writable: []string{}}
	var reasons []error
	if version, writable, err := boundFiles(b); err != nil {
		reasons = append(reasons, fmt.Errorf("landlock: %w", err))
	} else {
		s.Landlock, s.Writable = version, writable
	}
	if err := filterCalls(); err != nil {
		reasons = append(reasons, fmt.Errorf("seccomp: %w", err))
	} else {
		s.Seccomp = true
	}
	if err := errors.Join(reasons...); err != nil {
		s.Reason = err.Error()
	}
	return s
}

// places are the directories that rules are made for.
func places(b Bounds) ([]string, error) {
	writable, silent := resolve(b.Writable, existing)
	if silent == "" {
		var more []string
		more, silent = resolve(b.Mounts, above)
		writable = append(writable, more...)
	}
	if silent != "" {
		return nil, fmt.Errorf("%s does not answer", quote.Path(silent))
	}
	writable = slices.DeleteFunc(writable, func(dir string) bool { return dir == "/" })
	slices.Sort(writable)
	return slices.Compact(writable), nil
}

func boundFiles(b Bounds) (version int, writable []string, err error) {
	version, err = ll.LandlockGetABIVersion()
	if err != nil {
		return 0, nil, fmt.Errorf("this kernel has none, or its use is forbidden: %w", err)
	}
	if version < leastLandlock {
		return 0, nil, fmt.Errorf("this kernel has version %d; moving files needs %d", version, leastLandlock)
	}
	if writable, err = places(b); err != nil {
		return 0, nil, err
	}
	handled := changes | landlock.AccessFSSet(ll.AccessFSExecute)
	cfg, err := landlock.NewConfig(handled)
	if err != nil {
		return 0, nil, err
	}
	null := landlock.AccessFSSet(ll.AccessFSWriteFile | ll.AccessFSTruncate)
	below := changes
	if version < 3 { // it can't tell cutting a file short from writing to it
		null, below = null&^ll.AccessFSTruncate, below&^ll.AccessFSTruncate
	}
	return version, writable, cfg.BestEffort().RestrictPaths(
		landlock.PathAccess(below, writable...), landlock.PathAccess(null, os.DevNull).IgnoreIfMissing())
}

// never are the system calls that the agent has no use for after its start: those that
// start programs, look into other processes, change who or where the process is, or
// reach parts of the kernel with a long history of holes. Everything else stays allowed:
// a list of what is needed would have to know what the next Go runtime calls; the
// service's unit has such a list, kept by systemd.
var never = []string{
	"execve", "execveat",
	"ptrace", "process_vm_readv", "process_vm_writev", "kcmp", "pidfd_getfd", "process_madvise",
	"bpf", "perf_event_open", "userfaultfd", "io_uring_setup", "io_uring_enter", "io_uring_register",
	"add_key", "request_key", "keyctl", "unshare", "setns",
	"mount", "umount", "umount2", "pivot_root", "chroot", "move_mount", "open_tree", "fsopen", "fsmount", "fsconfig", "fspick", "mount_setattr",
	"setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setfsuid", "setfsgid", "setgroups",
	"setuid32", "setgid32", "setreuid32", "setregid32", "setresuid32", "setresgid32", "setfsuid32", "setfsgid32", "setgroups32", "capset",
	"init_module", "finit_module", "delete_module", "create_module", "kexec_load", "kexec_file_load", "reboot", "swapon", "swapoff",
	"iopl", "ioperm", "modify_ldt", "personality", "acct", "quotactl", "quotactl_fd", "syslog", "vhangup", "nfsservctl", "uselib",
	"settimeofday", "clock_settime", "clock_settime64", "clock_adjtime", "clock_adjtime64", "adjtimex", "stime",
	"sethostname", "setdomainname", "open_by_handle_at", "name_to_handle_at", "fanotify_init", "lookup_dcookie",
	"mbind", "migrate_pages", "move_pages", "set_mempolicy", "memfd_secret",
}

func filterCalls() error {
	return filter(seccomp.ActionAllow, seccomp.SyscallGroup{Action: seccomp.ActionErrno, Names: never}) // EPERM
}

// filter loads a filter for all threads. Names that this machine does not have are left
// out.
func filter(otherwise seccomp.Action, group seccomp.SyscallGroup) error {
	machine, err := arch.GetInfo("")
	if err != nil {
		return err
	}
	runtime.LockOSThread() // what this thread may gain no more is this thread's, until the filter brings it to all
	defer runtime.UnlockOSThread()
	group.Names = slices.DeleteFunc(slices.Clone(group.Names), func(name string) bool { _, ok := machine.SyscallNames[name]; return !ok })
	return seccomp.LoadFilter(seccomp.Filter{
		NoNewPrivs: true, Flag: seccomp.FilterFlagTSync,
		Policy: seccomp.Policy{DefaultAction: otherwise, Syscalls: []seccomp.SyscallGroup{group}},
	})
}

// running are the system calls that a Go program makes by itself while it does next to
// nothing, and those for passing open files on.
var running = []string{
	"read", "write", "close", "sendmsg", "recvmsg", "restart_syscall", "exit", "exit_group",
	"futex", "futex_time64", "nanosleep", "clock_nanosleep", "clock_nanosleep_time64", "clock_gettime", "clock_gettime64", "sched_yield", "sched_getaffinity",
	"mmap", "mmap2", "munmap", "mprotect", "madvise", "brk", "prctl", "getrandom",
	"rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigreturn", "sigaltstack", "rt_sigtimedwait", "tgkill", "getpid", "gettid",
	"clone", "clone3", "set_robust_list", "set_tid_address", "rseq", "membarrier",
	"timer_create", "timer_settime", "timer_settime64", "timer_delete",
	"epoll_create1", "epoll_ctl", "epoll_pwait", "epoll_wait", "eventfd2", "pipe2", "fcntl", "fcntl64",
}

// PacketSockets leaves this process, all its threads, nothing but to open packet sockets
// and to hand them over: no file, no other socket, no program.
func PacketSockets() error {
	// Where the kernel has no Landlock the filter still allows no file to be opened.
	if err := landlock.V7.BestEffort().Restrict(); err != nil {
		return fmt.Errorf("landlock: %w", err)
	}
	err := filter(seccomp.ActionErrno, seccomp.SyscallGroup{
		Action: seccomp.ActionAllow, Names: running,
		NamesWithCondtions: []seccomp.NameWithConditions{{
			Name: "socket", Conditions: seccomp.ArgumentConditions{{Argument: 0, Operation: seccomp.Equal, Value: unix.AF_PACKET}},
		}},
	})
	if err != nil {
		return fmt.Errorf("seccomp: %w", err)
	}
	return nil
}
