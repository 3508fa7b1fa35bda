package main

import (
	"context"
	"os/exec"
	"runtime"
)

// openBrowser shows link, which the client built from the configured URL and a
// validated id. A machine without a browser is no error: the link was printed.
func openBrowser(ctx context.Context, link string) {
	name, args := "xdg-open", []string{link}
	switch runtime.GOOS {
	case "darwin":
		name = "open"
	case "windows":
		name, args = "rundll32", []string{"url.dll,FileProtocolHandler", link}
	}
	cmd := exec.CommandContext(context.WithoutCancel(ctx), name, args...) //nolint:gosec // a fixed program, a link of our own making
	if cmd.Start() == nil {
		_ = cmd.Process.Release() // the browser outlives us
	}
}
