package indicator_test

import (
	"net/netip"
	"testing"

	"capagent/enrich/indicator"
)

// TestARouterIsOneSenderOfManyAddresses: of a hardware address that sends for many, a
// few are kept and that there are more.
func TestARouterIsOneSenderOfManyAddresses(t *testing.T) {
	s := indicator.New()
	for i := range 100 {
		for range 2 {
			s.Sender([6]byte{0, 1}, netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), indicator.At{Frame: int64(i + 1)})
		}
	}
	s.Sender([6]byte{1, 1}, netip.MustParseAddr("192.0.2.1"), indicator.At{})     // a group
	s.Sender([6]byte{0, 2}, netip.IPv4Unspecified(), indicator.At{})              // asks for an address
	s.Sender([6]byte{0, 3}, netip.Addr{}, indicator.At{})                         // none
	s.Sender([6]byte{}, netip.MustParseAddr("192.0.2.1"), indicator.At{})         // none
	s.Sender([6]byte{0, 4}, netip.MustParseAddr("192.0.2.1"), indicator.At{1, 1}) // another one
	got := s.Senders()
	if len(got) != 2 || got[0].Behind != indicator.MaxBehind+1 || len(got[0].IPs) != indicator.MaxBehind || got[0].First.Frame != 1 || got[1].Behind != 1 {
		t.Errorf("%+v", got)
	}
}

func TestSendersAndAnswersAreBounded(t *testing.T) {
	s := indicator.New()
	ip := netip.MustParseAddr("192.0.2.1")
	for i := range indicator.MaxSenders + 5 {
		s.Sender([6]byte{0, 1, byte(i >> 16), byte(i >> 8), byte(i), 1}, ip, indicator.At{})
	}
	if len(s.Senders()) != indicator.MaxSenders || s.Limits()[indicator.LimitSenders] != 5 {
		t.Errorf("%d, %v", len(s.Senders()), s.Limits())
	}
	s.Host([]byte("A.example."), indicator.DNSQuestion, indicator.At{Frame: 1})
	for i := range indicator.MaxResolved + 5 {
		s.Resolved([]byte("a.Example"), netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}))
	}
	s.Resolved([]byte("never-seen.example"), ip)
	if got := s.Answers(); len(got) != indicator.MaxResolved || got[0].Host != "a.example" {
		t.Errorf("%d", len(got))
	}
}
