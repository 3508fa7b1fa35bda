package flow

import (
	"fmt"
	"strings"

	"github.com/dustin/go-humanize"
)

// Text tells a Summary in at most three short lines: the protocols, who talked
// most, and the largest flow with its Community ID. It is "" without flows.
func (s Summary) Text() string {
	if s.Flows == 0 {
		return ""
	}
	const most = 6 // of each
	var protocols, talkers []string
	for _, p := range s.Protocols[:min(len(s.Protocols), most)] {
		protocols = append(protocols, p.Name+" "+size(p.Bytes))
	}
	if rest := len(s.Protocols) - most; rest > 0 {
		protocols = append(protocols, fmt.Sprintf("%d more", rest))
	}
	for _, t := range s.Talkers[:min(len(s.Talkers), most)] {
		talkers = append(talkers, t.Address.String()+" "+size(t.Sent+t.Received))
	}
	lines := []string{
		fmt.Sprintf("flows: %d; %s", s.Flows, strings.Join(protocols, ", ")),
		"talkers: " + strings.Join(talkers, ", "),
	}
	if len(s.Largest) > 0 {
		l := s.Largest[0]
		lines = append(lines, fmt.Sprintf("largest: %s %s to %s, %s, community id %s", l.Protocol, l.Client, l.Server, size(l.bytes()), l.CommunityID))
	}
	return strings.Join(lines, "\n")
}

func size(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }
