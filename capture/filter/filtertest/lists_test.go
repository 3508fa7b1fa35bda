package filtertest

import (
	"os"
	"strings"
	"testing"
)

// TestEveryLength cuts packets at every length: what a program loads from outside
// the packet refuses it, so the order of its loads is seen here.
func TestEveryLength(t *testing.T) {
	j := judge(t)
	cuts, wrong := 0, 0
	for i, expr := range manPage(t) {
		for _, link := range Links {
			if link != LinkEthernet && i%8 != 0 {
				continue
			}
			pair, bad, err := j.Pair(Case{Expr: expr, LinkType: link})
			if err != nil || bad != nil {
				continue // TestManPage says so
			}
			r := seeded(uint64(i), uint64(link))
			h := hunter{pair: pair, r: r, packets: NewPackets(r, link, expr), theirs: cover{}, ours: cover{}}
			for n := range scaled(40) {
				h.offer(h.next(n))
			}
			for _, s := range h.seeds {
				for cut := range s.frame.Data {
					cuts++
					_, bad := pair.Try(Frame{Data: s.frame.Data[:cut], Length: s.frame.Length})
					if bad == nil {
						continue
					}
					if wrong++; wrong < 20 {
						show(t, []*Disagreement{j.Shrink(bad)})
					}
				}
			}
		}
	}
	t.Logf("%d cut packets, %d wrong", cuts, wrong)
}

// TestNames tries the names of ports and protocols that the system has.
func TestNames(t *testing.T) {
	j := judge(t)
	var total Tally
	try := func(expr string) {
		judgeOne(t, j, Case{Expr: expr, LinkType: LinkEthernet}, 1, scaled(10), &total)
	}
	last := "http"
	for _, name := range firstWords(t, "/etc/services") {
		for _, proto := range []string{"", "tcp ", "udp ", "sctp "} {
			try(proto + "port " + name)
		}
		if !strings.Contains(name, "-") {
			try("portrange " + last + "-" + name)
			last = name
		}
	}
	for _, name := range firstWords(t, "/etc/protocols") {
		for _, proto := range []string{"", "ip ", "ip6 ", "ether ", "iso ", "isis "} {
			try(proto + `proto \` + name)
		}
		try(`ip protochain \` + name)
	}
	t.Logf("%v", &total)
	show(t, total.Bad)
}

// firstWords are the names at the beginnings of a file's lines.
func firstWords(t *testing.T, file string) (names []string) {
	b, err := os.ReadFile(file)
	if err != nil {
		t.Skip(err)
	}
	seen := map[string]bool{}
	for _, line := range strings.Split(string(b), "\n") {
		word := strings.Fields(line)
		if len(word) < 2 || word[0][0] == '#' || seen[word[0]] {
			continue
		}
		seen[word[0]] = true
		names = append(names, word[0])
	}
	return names
}
