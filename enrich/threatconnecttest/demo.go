package threatconnecttest

import "time"

// Demo adds what ThreatConnect would say of the example captures
// (examples/captures/README.md), in three owners that do not quite agree.
func (s *Server) Demo() {
	const (
		community = "Office ISAC"
		feed      = "Open Feed"
	)
	s.AddOwner(Owner{Name: community, Type: "Community"})
	s.AddOwner(Owner{Name: feed, Type: "Source"})
	viewer := []Group{{Type: "Malware", Name: "Viewer Setup"}, {Type: "Campaign", Name: "Branch Office Spring"}}
	actor := append(viewer[:2:2], Group{Type: "Adversary", Name: "Quiet Heron"})
	for _, i := range []Indicator{
		{
			Type: "Host", Value: "sync.example.net", Rating: 5, Confidence: 95, Groups: actor, Tags: []string{"command and control"},
			Description: "Controls workstations that ran the viewer.",
		},
		{Type: "Host", Value: "backup-sync.example.net", Rating: 3, Confidence: 50, Groups: viewer},
		{
			Type: "Host", Value: "files.example.net", Owner: community, Rating: 4, Confidence: 85, Groups: viewer, Tags: []string{"malware delivery"},
			Description: "Hands out the viewer and takes its reports.",
		},
		{Type: "Address", Value: "203.0.113.66", Owner: community, Rating: 4, Confidence: 80, Groups: viewer, Description: "Server behind files and sync.example.net."},
		{Type: "Address", Value: "203.0.113.66", Owner: feed, Rating: 2, Confidence: 20},
		{Type: "Address", Value: "2001:db8:bad::66", Owner: community, Rating: 4, Confidence: 75, Groups: viewer},
		{Type: "URL", Value: "http://files.example.net/tools/viewer-setup.bin", Rating: 5, Confidence: 100, Groups: actor, Description: "The viewer itself."},
		{Type: "URL", Value: "http://files.example.net/ping?id=branch-12", Rating: 4, Confidence: 90, Groups: viewer, Description: "A report of an infected branch office."},
		{
			Type: "File", Rating: 5, Confidence: 100, Groups: actor, Description: "viewer-setup.bin",
			Value: "f4251b1d9a869a47cb39e4813c91c3af : 531895aa1115c54ed6d617e3f7c142cac4bdf9bf : 79844b5c0bb26e897378ee06b96394f28b27187d1493d9c4fbf559aad8115140",
		},
		{
			Type: "File", Rating: 3, Confidence: 60, Groups: viewer, Description: "What the server answers a report with.",
			Value: "b9f7befb846f0af2955a5c1d8c8208e3b3665ea66cd20b53bf80351cde3bd29e",
		},
		{Type: "User Agent", Value: "viewer-setup/1.2", Rating: 3, Confidence: 70, Groups: viewer},
		// Below any sensible threshold, and no longer held to be true.
		{Type: "Host", Value: "wpad.example.com", Owner: feed, Rating: 1, Confidence: 10},
		{Type: "Host", Value: "www.example.org", Owner: feed, Rating: 3, Confidence: 40, Inactive: true},
	} {
		i.Added = time.Date(2026, 3, 11, 8, 0, 0, 0, time.UTC)
		i.Score = int(i.Rating * 190)
		s.Add(i)
	}
	s.AddExclusions(ExclusionList{
		Name: "Indicator-Address-IPv4", Fixed: []string{"192.0.2.53"},
		Variable: []string{"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"},
	})
	s.AddExclusions(ExclusionList{Name: "Indicator-Host", Owner: s.opts.Organization, Fixed: []string{"portal.example.com"}, Variable: []string{"*.corp.example.com"}})
}
