package main

import "os"

// exitStatus is how a command ended.
func exitStatus(state *os.ProcessState) int { return state.ExitCode() }

// fromTerminal says that a Ctrl-C is one of our console's: that sends it to the
// command as well.
func fromTerminal() bool { return true }
