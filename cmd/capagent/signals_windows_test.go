package main

import (
	"testing"

	"golang.org/x/sys/windows"
)

func interruptSelf(t *testing.T) {
	t.Helper()
	if err := windows.GenerateConsoleCtrlEvent(windows.CTRL_C_EVENT, 0); err != nil {
		t.Skipf("no console to send an event by: %v", err)
	}
}
