//go:build !windows

package main

import "github.com/spf13/cobra"

// serviceCommands are for Windows: other managers start `capagent run`.
func (a *app) serviceCommands() []*cobra.Command { return nil }

func (a *app) afterInstall() error { return nil }

// makeVault is for Windows: DPAPI is nowhere else.
func makeVault() error { return nil }
