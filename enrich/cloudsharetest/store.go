package cloudsharetest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"capagent/internal/standin"
)

// MaxSnapshots is how many a blueprint holds: the newest displaces the oldest.
const MaxSnapshots = 5

// Status codes of an environment.
const (
	Ready     = 2
	Suspended = 3
	Taking    = 7
)

var statusTexts = map[int]string{Ready: "Ready", Suspended: "Suspended", 4: "Archived", 5: "Deleted", Taking: "Taking snapshot", 8: "Preparing", 9: "Creation failed"}

// Env is an environment. AddEnv fills in what is left out.
type Env struct {
	ID, Name, Project, Owner, Blueprint, Region string
	Status                                      int
	Expires                                     time.Time // zero: none
	VMs                                         []VM
	Snapshots                                   []Snapshot

	ReadOnly bool // asking for the right to edit it answers 500
	Foreign  bool // is not the user's own: listed with allvisible only

	Postponed int    // how often its suspension was
	taking    int    // how often it is still asked for before its snapshot is there
	next      string // the name of that
	nextMain  bool   // it becomes the default
}

// VM is a machine of an environment.
type VM struct {
	ID, Name, FQDN, External string
	Internal                 []string
	User                     string
	Password, ConsoleToken   string // live secrets
}

// Snapshot is one of an environment.
type Snapshot struct {
	ID, Name string
	Created  time.Time
	Default  bool
}

// AddEnv adds an environment and returns its id.
func (s *Server) AddEnv(e Env) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	fill := func(field *string, value string) {
		if *field == "" {
			*field = value
		}
	}
	fill(&e.ID, s.id("EN"))
	fill(&e.Name, "Lab "+e.ID)
	fill(&e.Project, "Demo")
	fill(&e.Owner, "owner@lab.example")
	fill(&e.Blueprint, "Web Test")
	fill(&e.Region, "REKolD1-ab84YIxODeMGob9A2")
	if e.Status == 0 {
		e.Status = Ready
	}
	e.VMs, e.Snapshots = slices.Clone(e.VMs), slices.Clone(e.Snapshots)
	for i := range e.VMs {
		vm := &e.VMs[i]
		fill(&vm.ID, s.id("MC"))
		fill(&vm.Name, "machine")
		fill(&vm.User, "root")
		fill(&vm.Password, "vmpass-"+standin.Random(8))
		fill(&vm.ConsoleToken, "vmconsole-"+standin.Random(8))
	}
	for i := range e.Snapshots {
		fill(&e.Snapshots[i].ID, s.id("SS"))
		fill(&e.Snapshots[i].Name, "snapshot "+e.Snapshots[i].ID)
	}
	s.envs = append(s.envs, &e)
	return e.ID
}

// id makes one of that kind.
func (s *Server) id(kind string) string {
	s.made++
	return fmt.Sprintf("%s%08d-%s", kind, s.made, standin.Random(4))
}

// Secrets are the passwords and console tokens of all machines, which belong nowhere.
func (s *Server) Secrets() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, e := range s.envs {
		for _, vm := range e.VMs {
			out = append(out, vm.Password, vm.ConsoleToken)
		}
	}
	return out
}

// Envs returns all environments as they are now.
func (s *Server) Envs() []Env {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Env
	for _, e := range s.envs {
		one := *e
		one.VMs, one.Snapshots = slices.Clone(e.VMs), slices.Clone(e.Snapshots)
		out = append(out, one)
	}
	return out
}

// Env returns one environment as it is now; the zero value when there is none.
func (s *Server) Env(id string) Env {
	for _, e := range s.Envs() {
		if e.ID == id {
			return e
		}
	}
	return Env{}
}

// Change changes an environment.
func (s *Server) Change(id string, change func(*Env)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.env(id); e != nil {
		change(e)
	}
}

func (s *Server) env(id string) *Env {
	for _, e := range s.envs {
		if e.ID == id {
			return e
		}
	}
	return nil
}

// vanity finds the environment of a machine by its name, or the first label of that.
func (s *Server) vanity(name string) *Env {
	for _, e := range s.envs {
		for _, vm := range e.VMs {
			label, _, _ := strings.Cut(vm.FQDN, ".")
			if vm.FQDN != "" && (strings.EqualFold(name, vm.FQDN) || strings.EqualFold(name, label)) {
				return e
			}
		}
	}
	return nil
}

// asked lets a snapshot come nearer each time that its environment is asked for.
func (s *Server) asked(e *Env, stuck bool) {
	if e.Status != Taking || stuck {
		return
	}
	if e.taking--; e.taking > 0 {
		return
	}
	e.Status = Ready
	if e.next == "" {
		return
	}
	if e.nextMain {
		for i := range e.Snapshots {
			e.Snapshots[i].Default = false
		}
	}
	e.Snapshots = append(e.Snapshots, Snapshot{ID: s.id("SS"), Name: e.next, Created: s.opts.Now(), Default: e.nextMain})
	if len(e.Snapshots) > MaxSnapshots {
		e.Snapshots = e.Snapshots[1:]
		s.Count("evicted")
	}
}
