package pcapio_test

import (
	"bytes"
	"reflect"
	"testing"

	"capagent/internal/pcapio"
)

// What a PcapngWriter is told, Describe tells again, in its place.
func TestDescribeTellsWhatWasWritten(t *testing.T) {
	section := pcapio.Section{Comment: "a\ncomment", Hardware: "hw", OS: "os", Application: "app"}
	second := pcapio.Section{Application: "another"}
	eth := pcapio.Interface{
		Name: "eth0", Description: "d", Filter: "udp port 9", OS: "os", Hardware: "hw", LinkType: 1, SnapLen: 96,
		MAC: []byte{2, 0, 0, 0, 0, 1}, Speed: 10_000_000_000,
	}
	tun := pcapio.Interface{Name: "tun0", LinkType: 101}
	stats := pcapio.Stats{Time: 5e9, Start: 1e9, End: 2e9 + 1, Comment: "gaps", Received: 10, Dropped: 0, OSDrop: 3, Accepted: -1}
	var out bytes.Buffer
	w, err := pcapio.NewPcapngWriter(&out, section)
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	add := func(i pcapio.Interface) {
		_, err := w.AddInterface(i)
		ok(err)
	}
	ok(err)
	add(eth)
	ok(w.WriteSecrets(pcapio.TLSKeyLog, []byte("CLIENT_RANDOM")))
	ok(w.WritePacket(0, 1e9, []byte{1}, 1, ""))
	add(tun)
	ok(w.WriteStats(1, stats))
	ok(w.WriteSection(second))
	add(tun)
	ok(w.WritePacket(0, 1e9, []byte{2}, 1, ""))
	want := []any{
		section, eth, "CLIENT_RANDOM", 1, // after which the first packet comes
		tun, stats, second, tun, 2,
	}
	var got []any
	r, err := pcapio.NewReader(bytes.NewReader(out.Bytes()))
	ok(err)
	r.Describe(pcapio.Described{
		Section:   func(s pcapio.Section) { got = append(got, s) },
		Interface: func(i pcapio.Interface) { got = append(got, i) },
		Stats: func(i int, s pcapio.Stats) {
			if i != 1 {
				t.Errorf("stats of interface %d", i)
			}
			got = append(got, s)
		},
		Secrets: func(kind uint32, b []byte) {
			if kind != pcapio.TLSKeyLog {
				t.Errorf("secrets of kind %x", kind)
			}
			got = append(got, string(b))
		},
	})
	var p pcapio.Packet
	for r.Next(&p) == nil {
		got = append(got, int(p.Data[0]))
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
	// Whatever a byte becomes, nothing worse than an error comes of it.
	all := pcapio.Described{
		Section: func(pcapio.Section) {}, Interface: func(pcapio.Interface) {}, Stats: func(int, pcapio.Stats) {}, Secrets: func(uint32, []byte) {},
	}
	for at := range out.Len() {
		for _, to := range []byte{0, 1, 0x7f, 0x80, 0xff} {
			b := bytes.Clone(out.Bytes())
			b[at] = to
			if r, err := pcapio.NewReader(bytes.NewReader(b)); err == nil {
				r.Describe(all)
				for r.Next(&p) == nil {
				}
			}
		}
	}
}
