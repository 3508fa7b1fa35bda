package rotate_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"capagent/internal/pcapio"
	"capagent/rotate"
)

func seeds(f *testing.F) {
	for _, format := range []string{"pcap", "pcapng"} {
		r := newRig(f, rotate.Config{Packets: 100, Format: format}, newLine(ether, ether), rotate.Options{})
		batch := numbered(10, 0, 1e9, 1)
		batch[3].Interface = 1
		r.write(batch)
		r.Miss(rotate.Gap{Interface: "if0", Packets: 3, Cause: "x"})
		b, err := os.ReadFile(r.end()[0].Path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add(b[:len(b)/2])
		f.Add(append(bytes.Clone(b[:len(b)/2]), make([]byte, 1000)...))
	}
}

// count is how many packets are in a file and what ended it, nil for its end.
func count(content []byte) (n uint64, err error) {
	r, err := pcapio.NewReader(bytes.NewReader(content))
	var p pcapio.Packet
	for err == nil {
		if err = r.Next(&p); err == nil {
			n++
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

func FuzzSalvage(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, content []byte) {
		dir := t.TempDir()
		path := filepath.Join(dir, "eth0_20261122T010203.010000Z_000001.pcapng")
		if err := os.WriteFile(path+rotate.Part, content, 0o600); err != nil {
			t.Fatal(err)
		}
		var told []rotate.Sealed
		if err := rotate.Salvage(dir, func(s rotate.Sealed) { told = append(told, s) }); err != nil {
			t.Fatal(err)
		}
		before, _ := count(content)
		if len(told) == 0 {
			if left, _ := os.ReadDir(dir); len(left) > 0 {
				t.Fatal("it is left, and nobody knows")
			}
			// Records of nothing but zeros are what a power cut leaves, not packets.
			if before > 0 && len(bytes.Trim(content[24:24+16*min(before, uint64(len(content)-24)/16)], "\x00")) > 0 {
				t.Fatalf("%d packets are gone", before)
			}
			return
		}
		s := told[0]
		after, err := os.ReadFile(s.Path)
		if err != nil || int64(len(after)) != s.Size && s.Err == nil || !bytes.HasPrefix(content, after) {
			t.Fatalf("%d bytes became %d: %+v, %v", len(content), len(after), s, err)
		}
		n, err := count(after)
		if s.Err == nil && (err != nil || n != s.Packets) {
			t.Fatalf("%d packets, %v: %+v", n, err, s)
		}
		if s.Err != nil && len(after) != len(content) {
			t.Fatalf("what is damaged was cut: %v", s.Err)
		}
	})
}

func FuzzWindow(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, content []byte) {
		dir := t.TempDir()
		path := filepath.Join(dir, "f")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		both := []rotate.Segment{{Path: path}, {Path: path, First: time.Unix(1, 0)}}
		for _, format := range []pcapio.Format{pcapio.Pcap, pcapio.Pcapng} {
			var out bytes.Buffer
			w, err := rotate.Window(context.Background(), &out, rotate.WindowOptions{Segments: both, Format: format})
			if err != nil {
				continue
			}
			if w.Packets == 0 {
				continue
			}
			if n, err := count(out.Bytes()); n != w.Packets || err != nil || n != w.Inputs[0].Packets+w.Inputs[1].Packets {
				t.Fatalf("%d packets, %v: %+v", n, err, w)
			}
		}
	})
}
