package main

import (
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
)

// watchdog is how often systemd wants to hear from the agent (WatchdogSec), 0 for never.
func watchdog() time.Duration {
	every, err := sd.SdWatchdogEnabled(false)
	if err != nil {
		return 0 // it is meant for another process
	}
	return every
}

// notify tells systemd how the agent fares, where that started it (Type=notify).
func notify(state string) {
	_, _ = sd.SdNotify(false, state) // nobody listens where nobody started us
}
