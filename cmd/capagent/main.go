// Command capagent uploads packet captures to CloudShark: single files, trees
// of evidence, and what the daemon captures. See the README.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"capagent/capture/opener"
)

// version is set by the build. It goes into the User-Agent, which wants digits
// in front (contracts/cloudshark.md 0).
var version = "0.1.0-dev"

func main() {
	if len(os.Args) == 2 && os.Args[1] == opener.Argument {
		os.Exit(packetSockets())
	}
	os.Exit(mainCode())
}

// packetSockets is the child that the agent keeps the right to capture in. It reads no
// configuration and no secret.
func packetSockets() int {
	told := func(err error) { fmt.Fprintln(os.Stderr, "capagent packet-sockets:", err) }
	if err := opener.Serve(told); err != nil {
		told(err)
		return exitFailed
	}
	return exitOK
}

// mainCode runs the command line. The first interrupt cancels the work, which
// then records where it stands; the second ends the process at once.
func mainCode() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	return run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
}
