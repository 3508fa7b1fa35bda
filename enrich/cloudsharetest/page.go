package cloudsharetest

import (
	"strconv"
	"time"

	"capagent/internal/standin"
)

func (s *Server) page() []standin.Section {
	all := standin.Section{Title: "Environments", Head: []string{"Name", "Id", "Status", "Project", "Expires", "Machine", "Addresses"}, Empty: "None."}
	taken := standin.Section{Title: "Snapshots", Head: []string{"Environment", "Name", "Taken", "Default"}, Empty: "None."}
	for _, e := range s.Envs() {
		expires := "never"
		if !e.Expires.IsZero() {
			expires = e.Expires.UTC().Format(time.DateTime)
		}
		status := statusTexts[e.Status]
		if e.Postponed > 0 {
			status += ", postponed " + strconv.Itoa(e.Postponed) + " times"
		}
		row := []string{e.Name, e.ID, status, e.Project, expires}
		for _, vm := range e.VMs {
			addresses := vm.External
			for _, ip := range vm.Internal {
				addresses += " " + ip
			}
			all.Rows = append(all.Rows, append(row[:5:5], vm.Name+" "+vm.FQDN, addresses))
		}
		if len(e.VMs) == 0 {
			all.Rows = append(all.Rows, append(row[:5:5], "", ""))
		}
		for _, one := range e.Snapshots {
			taken.Rows = append(taken.Rows, []string{e.Name, one.Name, one.Created.UTC().Format(time.DateTime), strconv.FormatBool(one.Default)})
		}
	}
	return []standin.Section{all, taken}
}

// Demo adds labs, in one of which the machine of that name and public address is, and
// returns the id of that one.
func (s *Server) Demo(fqdn, ip string) string {
	now := s.opts.Now()
	id := s.AddEnv(Env{
		ID: "ENdemo-branch-office", Name: "Branch office", Project: "Spring exercise", Owner: "trainer@example.com", Expires: now.Add(75 * time.Hour),
		VMs: []VM{
			{ID: "MCdemo-files", Name: "files", FQDN: fqdn, External: ip, Internal: []string{"10.160.189.98"}},
			{ID: "MCdemo-desk", Name: "desk-17", FQDN: "desk17demo.vm.cld.sr", Internal: []string{"10.160.189.17"}},
		},
		Snapshots: []Snapshot{{ID: "SSdemo-1", Name: "before the exercise", Created: now.Add(-240 * time.Hour), Default: true}},
	})
	full := Env{ID: "ENdemo-full", Name: "Web course", Project: "Courses", Expires: now.Add(9 * time.Hour), VMs: []VM{{ID: "MCdemo-web", Name: "web", FQDN: "webdemo.vm.cld.sr", Internal: []string{"10.160.189.98"}}}}
	for i := range MaxSnapshots {
		full.Snapshots = append(full.Snapshots, Snapshot{Name: "lesson " + strconv.Itoa(i+1), Created: now.Add(time.Duration(i-30) * 24 * time.Hour), Default: i == 0})
	}
	s.AddEnv(full)
	s.AddEnv(Env{ID: "ENdemo-old", Name: "Old lab", Project: "Courses", Status: Suspended, VMs: []VM{{ID: "MCdemo-old", Name: "old"}}})
	return id
}
