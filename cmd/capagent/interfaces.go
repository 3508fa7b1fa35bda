package main

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"capagent/capture/live"
	"capagent/internal/quote"
)

// interfaceView is what `interfaces --json` prints, a line each.
type interfaceView struct {
	Name        string   `json:"name"`
	Description string   `json:"description"`
	Index       int      `json:"index"`
	State       string   `json:"state"` // "up", "down", "no link"
	Loopback    bool     `json:"loopback"`
	MTU         int      `json:"mtu"`
	MAC         string   `json:"mac"`
	Addresses   []string `json:"addresses"`
	LinkType    string   `json:"link_type"`
	Capture     bool     `json:"capture"` // it can be captured from
	Reason      string   `json:"reason"`  // why not
}

func (a *app) interfacesCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "interfaces",
		Short: "List what can be captured from, and why not",
		Args:  noArgs,
		RunE:  func(*cobra.Command, []string) error { return a.interfaces() },
	}
}

func (a *app) interfaces() error {
	all, err := live.Interfaces()
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(a.stdout, 0, 8, 2, ' ', 0)
	if !a.json {
		fmt.Fprintln(table, "NAME\tSTATE\tLINK TYPE\tCAPTURE\tADDRESSES")
	}
	var reasons []string
	for _, i := range all {
		v := viewInterface(i)
		if a.json {
			if err := a.encode(v); err != nil {
				return err
			}
			continue
		}
		can := "yes"
		if !v.Capture {
			can = "no"
			if reasons = append(reasons, v.Reason); len(reasons) > 1 && reasons[0] == v.Reason {
				reasons = reasons[:1] // the same for all, as rights are
			}
		}
		name := quote.Text(v.Name)
		if v.Description != "" && v.Description != v.Name {
			name += " (" + quote.Text(v.Description) + ")"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", name, v.State, v.LinkType, can, strings.Join(v.Addresses, " "))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, r := range reasons {
		a.say("can't capture: %s", quote.Text(r))
	}
	return nil
}

func viewInterface(i live.Interface) interfaceView {
	v := interfaceView{
		Name: i.Name, Description: i.Description, Index: i.Index, State: i.State(), Loopback: i.Loopback, MTU: i.MTU,
		MAC: i.MAC.String(), LinkType: i.LinkTypeName(), Capture: i.Problem == nil, Addresses: []string{},
	}
	for _, p := range i.Addresses {
		v.Addresses = append(v.Addresses, p.String())
	}
	if i.Problem != nil {
		v.Reason = i.Problem.Error()
	}
	return v
}
