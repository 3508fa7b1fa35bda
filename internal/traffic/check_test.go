package traffic_test

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"capagent/internal/traffic"
)

// write makes a capture of packets with these numbers; a negative one has none.
// Each is a microsecond after the one before it.
func write(t *testing.T, lead []byte, numbers ...int64) string {
	t.Helper()
	var b []byte
	for _, v := range []uint32{0xa1b2c3d4, 4<<16 | 2, 0, 0, 262144, 1} {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	for i, n := range numbers {
		data := append(append(make([]byte, 42), lead...), "\xca\x9a\x6e\x27capt"...)
		data = binary.BigEndian.AppendUint64(data, uint64(n))
		if n < 0 {
			data = data[:50]
		}
		for _, v := range []uint32{1000, uint32(i), uint32(len(data)), uint32(len(data))} {
			b = binary.LittleEndian.AppendUint32(b, v)
		}
		b = append(b, data...)
	}
	path := filepath.Join(t.TempDir(), "x.pcap")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCheckCounts(t *testing.T) {
	for name, tc := range map[string]struct {
		lead    []byte
		numbers []int64
		want    traffic.Result
	}{
		"nothing":      {nil, nil, traffic.Result{}},
		"all":          {nil, []int64{5, 6, 7}, traffic.Result{Packets: 3, Distinct: 3, First: 5, Last: 7, Bytes: 174}},
		"moved":        {make([]byte, 8), []int64{5, 6}, traffic.Result{Packets: 2, Distinct: 2, First: 5, Last: 6, Bytes: 132}},
		"lost":         {nil, []int64{5, 9, 200_000}, traffic.Result{Packets: 3, Distinct: 3, First: 5, Last: 200_000, Lost: 199_993, Bytes: 174}},
		"doubled":      {nil, []int64{5, 5, 6, 5}, traffic.Result{Packets: 4, Distinct: 2, First: 5, Last: 6, Doubled: 2, Disordered: 1, Bytes: 232}},
		"out of order": {nil, []int64{5, 7, 6, 8, 4}, traffic.Result{Packets: 5, Distinct: 5, First: 4, Last: 8, Disordered: 2, Bytes: 290}},
		"others":       {nil, []int64{-1, 5, -1}, traffic.Result{Packets: 1, Distinct: 1, First: 5, Last: 5, Other: 2, Bytes: 158}},
		"far apart":    {nil, []int64{0, 1 << 62}, traffic.Result{Packets: 2, Distinct: 2, Last: 1 << 62, Lost: 1<<62 - 1, Bytes: 116}},
	} {
		got, err := traffic.Check(write(t, tc.lead, tc.numbers...))
		if err != nil || got != tc.want {
			t.Errorf("%s: %+v, %v\nwant %+v", name, got, err, tc.want)
		}
	}
}

func TestCheckSeesSeveralFilesAsOne(t *testing.T) {
	got, err := traffic.Check(write(t, nil, 3, 4), write(t, nil, 1, 2, 3))
	want := traffic.Result{Packets: 5, Distinct: 4, First: 1, Last: 4, Doubled: 1, Bytes: 290}
	if err != nil || got != want {
		t.Errorf("%+v, %v\nwant %+v", got, err, want)
	}
	if m := got.Missing(10); m != 6 {
		t.Errorf("%d missing, want 6", m)
	}
}

func TestCheckSeesTimesThatGoBack(t *testing.T) {
	var c traffic.Checker
	for _, at := range []int64{10, 20, 20, 19, 30, 5} {
		c.Packet(at, nil)
	}
	c.Begin() // another file
	c.Packet(1, nil)
	if got, want := c.Result(), (traffic.Result{Other: 7, TimeBack: 2}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestCheckSaysWhatIsDamaged(t *testing.T) {
	path := write(t, nil, 1, 2, 3)
	if err := os.Truncate(path, 24+2*74+20); err != nil {
		t.Fatal(err)
	}
	got, err := traffic.Check(path)
	if err == nil || got.Distinct != 2 {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := traffic.Check(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a file that is not there was fine")
	}
}
