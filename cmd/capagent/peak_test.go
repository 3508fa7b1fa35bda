//go:build unix

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// outputAndPeak runs cmd and says how many MB it had resident at most. What the kernel
// tells at its end (ru_maxrss) begins with what the process had that started it; so on
// Linux it is asked while it runs.
func outputAndPeak(cmd *exec.Cmd) (out []byte, peak int64, err error) {
	var stdout bytes.Buffer
	cmd.Stdout = &stdout
	if err := cmd.Start(); err != nil {
		return nil, 0, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			peak = max(peak, highWater(cmd.Process.Pid))
		case err := <-ended:
			if peak == 0 {
				peak = int64(cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss) >> 10 //nolint:unconvert // int32 on 32 bits
			}
			return stdout.Bytes(), peak, err
		}
	}
}

// highWater is VmHWM of /proc/PID/status in MB, 0 where there is none.
func highWater(pid int) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	var kB int64
	_, _ = fmt.Sscan(rest, &kB)
	return kB >> 10
}
