//go:build !windows

package main

import "github.com/spf13/cobra"

// serviceRunCommand is for Windows: other managers start `capagent run`.
func (a *app) serviceRunCommand() *cobra.Command { return nil }
