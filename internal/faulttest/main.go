//go:build linux

package faulttest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"
)

const insideVar = "FAULTTEST_INSIDE"

// Main is for TestMain. Root's tests run in namespaces of their own: however they
// end, no file system stays mounted, no loop device stays taken, and the network
// that they disturb is theirs alone.
func Main(m *testing.M) int {
	LaunchMain()
	if os.Geteuid() != 0 {
		return m.Run()
	}
	if os.Getenv(insideVar) != "" {
		if err := command("ip", "link", "set", "lo", "mtu", "1500", "up"); err != nil {
			fmt.Fprintln(os.Stderr, "faulttest:", err)
			return 1
		}
		return m.Run()
	}
	cmd := exec.Command(os.Args[0], os.Args[1:]...) //nolint:noctx // the tests have their own time-out
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), insideVar+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	signal.Notify(make(chan os.Signal, 1), syscall.SIGINT) // the tests get it too, and say what there is to say
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return max(1, exit.ExitCode())
	default:
		fmt.Fprintln(os.Stderr, "faulttest: namespace:", err)
		return m.Run()
	}
}
