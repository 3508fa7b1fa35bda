package service

import (
	"encoding/base64"
	"time"
	"unicode/utf8"

	"capagent/enrich/device"
	"capagent/internal/ledger"
)

// View is a capture as --json, the manifest and the control API show it: the
// field names of design.md, null for what is not known.
type View struct {
	ID                *int64        `json:"id"` // null for a file that the ledger does not hold
	Source            string        `json:"source"`
	Path              string        `json:"path"`
	PathBase64        string        `json:"path_base64,omitempty"` // the exact bytes of a path that is not UTF-8
	Name              string        `json:"name"`
	NameBase64        string        `json:"name_base64,omitempty"` // likewise
	Case              *string       `json:"case"`
	Destination       *string       `json:"destination"`
	State             ledger.State  `json:"state"`
	Size              int64         `json:"size"`
	Format            string        `json:"format"`
	Packets           int64         `json:"packets"`
	PacketBytes       int64         `json:"packet_bytes"`
	First             *time.Time    `json:"first"`
	Last              *time.Time    `json:"last"`
	Disorder          int64         `json:"disorder"`
	LinkTypes         []string      `json:"link_types"`
	Truncated         bool          `json:"truncated"`
	Note              *string       `json:"note"`
	Summary           *string       `json:"summary"` // what the flows were, a few lines
	SHA256            string        `json:"sha256"`
	SHA1              string        `json:"sha1"`
	SessionID         *string       `json:"session_id"`
	SessionURL        *string       `json:"session_url"`
	SessionName       *string       `json:"session_name"`
	DuplicateOf       *int64        `json:"duplicate_of"`
	PossibleDuplicate bool          `json:"possible_duplicate"`
	Tags              []string      `json:"tags"`
	Findings          []FindingView `json:"findings"` // the worst first
	Error             *string       `json:"error"`
	Capture           *ledger.Live  `json:"capture"` // of live captures
	Parts             []PartView    `json:"parts,omitempty"`
	Steps             []StepView    `json:"steps,omitempty"`

	Machines   []device.Device `json:"machines,omitempty"`   // that have names, the surest first
	Deliveries []DeliveryView  `json:"deliveries,omitempty"` // where it is brought besides
}

// DeliveryView is a capture's way to another place than CloudShark.
type DeliveryView struct {
	Destination string               `json:"destination"`
	State       ledger.DeliveryState `json:"state"`
	Note        *string              `json:"note"`
	Link        *string              `json:"link"`
	Attempts    int                  `json:"attempts"`
	Error       *string              `json:"error"`
	NotBefore   *time.Time           `json:"not_before"`
	Updated     *time.Time           `json:"updated"`
}

// WithDeliveries adds the deliveries.
func (v View) WithDeliveries(list []ledger.Delivery) View {
	for _, d := range list {
		v.Deliveries = append(v.Deliveries, DeliveryView{
			Destination: d.Destination, State: d.State, Note: known(d.Note), Link: known(d.Link), Attempts: d.Attempts,
			Error: known(d.Error), NotBefore: known(d.NotBefore), Updated: known(d.Updated),
		})
	}
	return v
}

// PartView is one part of a capture that was uploaded in several.
type PartView struct {
	Number     int        `json:"number"`
	Of         int        `json:"of"`
	Name       string     `json:"name"`
	Size       int64      `json:"size"`
	Packets    int64      `json:"packets"`
	First      *time.Time `json:"first"`
	Last       *time.Time `json:"last"`
	SHA256     string     `json:"sha256"`
	SHA1       string     `json:"sha1"`
	SessionID  *string    `json:"session_id"`
	SessionURL *string    `json:"session_url"`
}

// StepView is one step's record.
type StepView struct {
	Name      string           `json:"name"`
	State     ledger.StepState `json:"state"`
	Attempts  int              `json:"attempts"`
	NotBefore *time.Time       `json:"not_before"`
	Class     *string          `json:"class"`
	Error     *string          `json:"error"`
	Note      *string          `json:"note"`
	Updated   *time.Time       `json:"updated"`
}

// NewView shows a capture without its parts and steps.
func NewView(c ledger.Capture) View {
	v := View{
		ID: known(c.ID), Source: c.Source, Path: c.Path, Name: c.Name, Case: known(c.Case), Destination: known(c.Destination), State: c.State,
		Size: c.Size, Format: c.Format, Packets: c.Packets, PacketBytes: c.PacketBytes,
		First: known(c.First), Last: known(c.Last), Disorder: c.Disorder, LinkTypes: list(c.LinkTypes),
		Truncated: c.Truncated, Note: known(c.Note), Summary: known(c.Summary), SHA256: c.SHA256, SHA1: c.SHA1,
		SessionID: known(c.SessionID), SessionURL: known(c.SessionURL), SessionName: known(c.SessionName),
		DuplicateOf: known(c.DuplicateOf), PossibleDuplicate: c.PossibleDuplicate,
		Tags: list(c.Tags), Findings: []FindingView{}, Error: known(c.Reason),
		Capture: c.Live,
	}
	if !utf8.ValidString(c.Path) {
		v.PathBase64 = base64.StdEncoding.EncodeToString([]byte(c.Path))
	}
	if !utf8.ValidString(c.Name) {
		v.NameBase64 = base64.StdEncoding.EncodeToString([]byte(c.Name))
	}
	return v
}

// WithParts adds the parts, if there are several.
func (v View) WithParts(parts []ledger.Part) View {
	if len(parts) < 2 {
		return v
	}
	base := ""
	if v.Destination != nil {
		base = *v.Destination
	}
	link := func(session string) string { return base + "/captures/" + session } // contracts/cloudshark.md 0
	for _, p := range parts {
		pv := PartView{
			Number: p.Number, Of: p.Of, Name: p.Name, Size: p.Size, Packets: p.Packets,
			First: known(p.First), Last: known(p.Last), SHA256: p.SHA256, SHA1: p.SHA1, SessionID: known(p.SessionID),
		}
		if p.SessionID != "" {
			pv.SessionURL = known(link(p.SessionID))
		}
		v.Parts = append(v.Parts, pv)
	}
	return v
}

// WithSteps adds the steps.
func (v View) WithSteps(steps []ledger.Step) View {
	for _, s := range steps {
		v.Steps = append(v.Steps, StepView{
			Name: s.Name, State: s.State, Attempts: s.Attempts, NotBefore: known(s.NotBefore),
			Class: known(s.Class), Error: known(s.Error), Note: known(s.Note), Updated: known(s.Updated),
		})
	}
	return v
}

// known returns nil for a zero value.
func known[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

func list(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}
