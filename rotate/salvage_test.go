package rotate_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"capagent/internal/pcapio"
	"capagent/rotate"
)

func TestWhatIsBeingWrittenIsLeftAlone(t *testing.T) {
	r := newRig(t, rotate.Config{Packets: 100}, newLine(ether), rotate.Options{})
	r.write(numbered(3, 0, 0, 1))
	none := func(s rotate.Sealed) { t.Errorf("%+v", s) }
	if err := rotate.Salvage(r.dir, none); err != nil {
		t.Fatal(err)
	}
	r.write(numbered(3, 3, 0, 1))
	if s := r.end(); len(s) != 1 || len(read(t, s[0].Path)) != 6 {
		t.Errorf("%+v", s)
	}
	if err := rotate.Salvage(r.dir, none); err != nil {
		t.Fatal(err)
	}
	if err := rotate.Salvage(filepath.Join(r.dir, "nowhere"), none); err != nil {
		t.Fatal(err)
	}
}

func TestSalvageOfWhatever(t *testing.T) {
	whole := func(format pcapio.Format) []byte {
		r := newRig(t, rotate.Config{Packets: 100, Format: string(format)}, newLine(ether), rotate.Options{})
		r.write(numbered(10, 0, 0, 1))
		b, err := os.ReadFile(r.end()[0].Path)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	zeros := make([]byte, 100_000)
	for _, format := range []pcapio.Format{pcapio.Pcap, pcapio.Pcapng} {
		b := whole(format)
		head := 24
		if format == pcapio.Pcapng {
			head = 160
		}
		for name, tc := range map[string]struct {
			content []byte
			packets int // -1: removed; -2: stays, with an error
		}{
			"nothing":              {nil, -1},
			"a part of a header":   {b[:20], -1},
			"a header":             {b[:head], -1},
			"zeros alone":          {zeros, -1},
			"all but a byte":       {b[:len(b)-1], 10 - map[pcapio.Format]int{pcapio.Pcap: 1}[format]},
			"all":                  {b, 10},
			"all and zeros":        {append(bytes.Clone(b), zeros...), 10},
			"all and some zeros":   {append(bytes.Clone(b), zeros[:5]...), 10},
			"half and zeros":       {append(bytes.Clone(b[:len(b)/2]), zeros...), -3},
			"somebody else's text": {[]byte(strings.Repeat("a text that is no capture\n", 100)), -2},
		} {
			t.Run(string(format)+"/"+name, func(t *testing.T) {
				dir := t.TempDir()
				path := filepath.Join(dir, "eth0_20261122T010203.010000Z_000001."+string(format))
				if err := os.WriteFile(path+rotate.Part, tc.content, 0o600); err != nil {
					t.Fatal(err)
				}
				for _, other := range []string{"copy-1.part", "eth0_20261122T010203.010000Z_000001.pcapng.part.part", "x.part"} {
					_ = os.WriteFile(filepath.Join(dir, other), nil, 0o600)
				}
				var told []rotate.Sealed
				if err := rotate.Salvage(dir, func(s rotate.Sealed) { told = append(told, s) }); err != nil {
					t.Fatal(err)
				}
				left, _ := os.ReadDir(dir)
				switch tc.packets {
				case -1:
					if len(told) != 0 || len(left) != 3 {
						t.Errorf("%+v, %v", told, left)
					}
				case -2:
					if len(told) != 1 || told[0].Err == nil || told[0].Path != path+rotate.Part {
						t.Errorf("%+v", told)
					}
				default:
					if len(told) != 1 || told[0].Err != nil || told[0].Path != path {
						t.Fatalf("%+v", told)
					}
					got := read(t, path)
					if tc.packets >= 0 && len(got) != tc.packets || len(got) < 3 || told[0].Packets != uint64(len(got)) {
						t.Errorf("%d packets, %+v", len(got), told[0])
					}
					if i := told[0].Interfaces; len(i) != 1 || i[0].LinkType != ether || format == pcapio.Pcapng && i[0].Filter != "udp" {
						t.Errorf("%+v", i)
					}
					if n := told[0].Last.UnixNano(); n != int64(len(got)-1) {
						t.Errorf("the last comes at %d ns", n)
					}
				}
			})
		}
	}
}

func TestDamageIsKept(t *testing.T) {
	r := newRig(t, rotate.Config{Packets: 100, Format: "pcapng"}, newLine(ether), rotate.Options{})
	r.write(numbered(10, 0, 0, 1))
	path := r.end()[0].Path
	b, _ := os.ReadFile(path)
	copy(b[len(b)/2:], "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")
	_ = os.Remove(path)
	_ = os.WriteFile(path+rotate.Part, b, 0o600)
	var told []rotate.Sealed
	if err := rotate.Salvage(r.dir, func(s rotate.Sealed) { told = append(told, s) }); err != nil {
		t.Fatal(err)
	}
	after, _ := os.ReadFile(path)
	if len(told) != 1 || !errors.Is(told[0].Err, pcapio.ErrFormat) || len(after) != len(b) || told[0].Size != int64(len(b)) {
		t.Errorf("%+v; %d bytes became %d", told, len(b), len(after))
	}
}
