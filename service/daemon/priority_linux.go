package daemon

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// What can wait is this much nicer than the rest of the agent, and what can't,
// where the agent may (CAP_SYS_NICE), that much less nice.
const (
	niceLow  = 10
	niceHigh = -10
)

// lowPriority gives the calling goroutine a thread of its own that leaves the
// processor to others. Thread and goroutine end together.
func lowPriority() { ownThread(niceLow) }

// highPriority is the opposite, for the reader of a capture.
func highPriority() { ownThread(niceHigh) }

func ownThread(nice int) {
	runtime.LockOSThread() // for good: the thread is not for others any more
	_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), nice)
}
