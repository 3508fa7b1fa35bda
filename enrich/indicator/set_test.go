package indicator_test

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"capagent/enrich/indicator"
)

func values(s *indicator.Set) []string {
	var list []string
	for _, i := range s.List() {
		list = append(list, i.Type.String()+" "+i.Value)
	}
	return list
}

func TestEveryIndicatorHasOneForm(t *testing.T) {
	at := indicator.At{Frame: 1, Time: 1}
	s := indicator.New()
	for _, name := range []string{
		"WWW.Example.COM.", "www.example.com", "bücher.example", "xn--bcher-kva.example", "_ldap._tcp.dc", "a b", "\xff.example",
		"192.0.2.7", "[2001:DB8::1]", "2001:db8:0::1", ".", "",
	} {
		s.Host([]byte(name), indicator.DNSQuestion, at)
	}
	for _, u := range []string{"HTTP://Example.COM:8080/A b?\xff", "http://bücher.example/ü", "no url", "http://[2001:DB8::1]:80/"} {
		s.URL([]byte(u), indicator.HTTPRequest, at)
	}
	for _, a := range []string{"Joe@Example.COM", "nobody", "@x", "a@", "a b@c.example"} {
		s.Email([]byte(a), indicator.MailTo, at)
	}
	s.UserAgent([]byte("curl/8\t\x1b[1m\xff ü"), indicator.HTTPRequest, at)
	s.Address(netip.MustParseAddr("::ffff:192.0.2.7"), indicator.Source, at)
	want := []string{
		"address 192.0.2.7", "address 2001:db8::1",
		"host www.example.com", "host xn--bcher-kva.example", "host _ldap._tcp.dc", `host a\032b`, `host \255.example`,
		"url http://example.com:8080/A%20b?%FF", "url http://xn--bcher-kva.example/ü", "url http://[2001:db8::1]:80/",
		"email Joe@example.com",
		`user_agent curl/8\t\x1b[1m\xff ü`,
	}
	if diff := cmp.Diff(want, values(s)); diff != "" {
		t.Error(diff)
	}
}

func TestFirstIsTheLowestFrame(t *testing.T) {
	s := indicator.New()
	for _, at := range []indicator.At{{Frame: 5, Time: 50}, {Frame: 3, Time: 70}, {Frame: 9, Time: 60}} {
		s.Host([]byte("x.example"), indicator.Role(1)<<uint(at.Frame), at)
	}
	i := s.List()[0]
	if i.Count != 3 || i.First != (indicator.At{Frame: 3, Time: 70}) || i.Last != 70 || i.Role != 1<<5|1<<3|1<<9 {
		t.Errorf("%+v", i)
	}
}

func TestWhatIsNotKeptIsCounted(t *testing.T) {
	s := indicator.New()
	s.UserAgent(make([]byte, indicator.MaxValue), indicator.HTTPRequest, indicator.At{})
	for n := range indicator.MaxIndicators + 3 {
		s.Address(netip.AddrFrom4([4]byte{1, byte(n >> 16), byte(n >> 8), byte(n)}), indicator.Source, indicator.At{})
	}
	want := map[indicator.Limit]int64{indicator.LimitValue: 1, indicator.LimitIndicators: 3}
	if diff := cmp.Diff(want, s.Limits()); diff != "" {
		t.Error(diff)
	}
}

func TestKnownIndicatorsCostNoMemory(t *testing.T) {
	s := indicator.New()
	at := indicator.At{Frame: 1}
	name, address := []byte("WWW.example.com"), netip.MustParseAddr("192.0.2.1")
	see := func() {
		s.Host(name, indicator.DNSQuestion, at)
		s.URL([]byte("http://www.example.com/"), indicator.HTTPRequest, at)
		s.Address(address, indicator.Source, at)
		s.File([16]byte{1}, [20]byte{1}, [32]byte{1}, indicator.HTTPResponse, at)
	}
	see()
	if n := testing.AllocsPerRun(100, see); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestABudgetIsSpentOnce(t *testing.T) {
	s := indicator.New()
	const budget indicator.Limit = "budget"
	got := []bool{s.Spend(6, 10, budget), s.Spend(5, 10, budget), s.Spend(-1, 10, budget), s.Spend(5, 10, budget), s.Spend(1, 10, budget)}
	if diff := cmp.Diff([]bool{true, false, true, true, false}, got); diff != "" {
		t.Error(diff)
	}
	if n := s.Limits()[budget]; n != 2 {
		t.Errorf("counted %d times", n)
	}
}
