package service

import (
	"context"
	"fmt"
	"time"

	"capagent/enrich/cloudshare"
	"capagent/enrich/cloudtrax"
	"capagent/internal/ledger"
)

// NameStatus is what a namer knows, and since when.
type NameStatus struct {
	Source string
	Text   string // one line for people
	At     time.Time
	Stale  bool
	Error  string
}

// NamesStatus says what those know that have names for machines.
func (a *Agent) NamesStatus() (all []NameStatus) {
	for _, n := range a.Namers {
		s := NameStatus{Source: n.Name()}
		switch r := n.(type) {
		case *cloudtrax.Reader:
			v := r.Status()
			s.At, s.Stale, s.Error = v.At, v.Stale, v.Error
			s.Text = fmt.Sprintf("%d clients, %d access points, %d switches in %d networks", v.Clients, v.Nodes, v.Switches, v.Networks)
		case *cloudshare.Reader:
			v := r.Status()
			s.At, s.Stale, s.Error = v.Inventory, v.Stale, v.Error
			s.Text = fmt.Sprintf("%d machines in %d labs", v.Machines, v.Environments)
			if v.Own != "" {
				s.Text += "; this machine: " + v.Own
			}
		}
		all = append(all, s)
	}
	return all
}

// DeliveryStatus is how the deliveries to one destination stand.
type DeliveryStatus struct {
	Destination                    string
	Pending, Done, Failed, Skipped int64
}

// DeliveryStatus says how deliveries stand.
func (a *Agent) DeliveryStatus(ctx context.Context) (all []DeliveryStatus, err error) {
	for _, d := range a.Deliverers {
		n, err := a.Ledger.DeliveryCounts(ctx, d.Name())
		if err != nil {
			return all, err
		}
		all = append(all, DeliveryStatus{d.Name(), n[ledger.DeliveryPending], n[ledger.DeliveryDone], n[ledger.DeliveryFailed], n[ledger.DeliverySkipped]})
	}
	return all, nil
}

// Blocked are the clients that this agent blocks.
func (a *Agent) Blocked() ([]cloudtrax.Block, error) {
	if a.blocks == nil {
		return nil, nil
	}
	return a.blocks.List()
}
