package afpacket_test

import (
	"errors"
	"testing"

	"capagent/capture"
	"capagent/capture/filter"
	"capagent/internal/traffic"
)

// The same expression lets the same packets through here and in tcpdump, with
// the tags in the packets or out of them.
func TestFiltersPassWhatTcpdumpPasses(t *testing.T) {
	t.Parallel()
	p := newPair(t, traffic.Options{})
	for expr, want := range map[string]int{
		"udp port 9":                    60,
		"src port 10001":                20,
		"vlan":                          20,
		"vlan 100":                      20,
		"vlan 200":                      0,
		"vlan 100 and udp src 10001":    -1, // an error
		"vlan 100 and src port 10001":   10,
		"not vlan":                      40,
		"ip and less 150":               40,
		"greater 200":                   20,
		"host 10.99.0.1 and not vlan 5": 60,
		"tcp":                           0,
	} {
		t.Run(expr, func(t *testing.T) {
			c := settings{Options: rx()}
			c.Filter = expr
			if want < 0 {
				var e *filter.Error
				if err := openFails(t, p, c.Options); !errors.As(err, &e) {
					t.Errorf("%v", err)
				}
				return
			}
			s := begin(t, p, c)
			stop := tcpdump(t, p, "vethrx", expr)
			send(t, p, traffic.Load{Size: 100, Count: 20, Flows: 2})
			send(t, p, traffic.Load{Size: 120, Count: 20, Flows: 1, First: 20, Tags: nil})
			send(t, p, traffic.Load{Size: 220, Count: 20, Flows: 2, First: 40, Tags: []traffic.Tag{{TCI: 100}}})
			theirs, ours := stop(), s.stop()
			if len(ours) != want || len(theirs) != want {
				t.Fatalf("%d packets, tcpdump has %d, want %d", len(ours), len(theirs), want)
			}
			if want > 0 {
				wantSame(t, ours, theirs)
			}
		})
	}
}

func TestFiltersOnAny(t *testing.T) {
	t.Parallel()
	p := newPair(t, traffic.Options{})
	for expr, want := range map[string]int{
		"udp src port 10001": 10, "ip": 20, "arp": 0, "host 10.99.0.2": 20, "inbound": 20, "outbound": 0,
	} {
		t.Run(expr, func(t *testing.T) {
			c := settings{Options: capture.Options{Interfaces: []string{"any"}, Filter: expr}}
			s := begin(t, p, c)
			send(t, p, traffic.Load{Size: 100, Count: 10, Flows: 2})
			send(t, p, traffic.Load{Size: 100, Count: 10, Flows: 2, First: 10, Tags: []traffic.Tag{{TCI: 100}}})
			if got := s.stop(); len(got) != want {
				t.Errorf("%d packets, want %d", len(got), want)
			}
		})
	}
}
