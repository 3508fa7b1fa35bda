package cloudsharktest

import (
	"encoding/csv"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func check(data []byte) (captureFacts, error) {
	c := newChecker()
	_, _ = c.Write(data)
	err := c.finish()
	return c.facts, err
}

// capinfos is of Wireshark, as CloudShark's own engine is.
func TestTheCheckFindsWhatCapinfosFinds(t *testing.T) {
	capinfos := tool(t, "capinfos")
	files, _ := filepath.Glob("../../internal/pcapio/testdata/corpus/good/*.pcap*")
	args := []string{"-T", "-m", "-Q", "-M", "-r", "-S", "-c", "-a", "-e"}
	out, _ := exec.Command(capinfos, append(args, files...)...).Output() // fails for files it does not take
	rows, err := csv.NewReader(strings.NewReader(string(out))).ReadAll()
	if err != nil || len(rows) < 50 {
		t.Fatalf("%d rows of capinfos, %v", len(rows), err)
	}
	for _, row := range rows {
		if strings.Contains(row[0], "zstd") || strings.Contains(row[0], "every-block") {
			continue // refused here; counted differently there
		}
		data, err := os.ReadFile(row[0])
		if err != nil {
			t.Fatal(err)
		}
		got, err := check(data)
		if err != nil || strconv.FormatInt(got.packets, 10) != row[1] {
			t.Errorf("%s: %d packets (%v), capinfos %s", row[0], got.packets, err, row[1])
		}
		for i, at := range []time.Time{got.first, got.last} {
			want, err := strconv.ParseFloat(row[2+i], 64)
			// capinfos shows some formats to the millisecond only.
			if err == nil && math.Abs(float64(at.UnixNano())/1e9-want) > 0.001 || (err != nil) != at.IsZero() {
				t.Errorf("%s: %v, capinfos %s", row[0], at, row[2+i])
			}
		}
	}
}

func TestACutOrForeignFileIsNoCapture(t *testing.T) {
	whole := pcap(3, 100)
	for n := range len(whole) {
		_, err := check(whole[:n])
		if (n-24)%116 == 0 && n >= 24 {
			if err != nil {
				t.Errorf("cut at %d, between two packets: %v", n, err)
			}
		} else if err == nil {
			t.Errorf("cut at %d: taken as whole", n)
		}
	}
	for _, name := range []string{"gzip-cut-in-a-packet.pcap.gz", "gzip-in-gzip.gz", "gzip-of-text.gz", "pcap-claims-4g.pcap", "text.pcap", "zeros.pcap", "zstd-bomb.pcap.zst", "pcapng-unknown-claims-4g.pcapng"} {
		data, err := os.ReadFile(filepath.Join("../../internal/pcapio/testdata/corpus/hostile", name))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := check(data); err == nil {
			t.Errorf("%s: taken as whole", name)
		}
	}
}

func TestACutCaptureIsTakenOnRequest(t *testing.T) {
	s := start(t, Options{AllowCut: true})
	data := pcap(3, 100)
	c := mustPut(t, s, "filename=x.pcap", data[:len(data)-1])
	if !c.Cut || c.Packets != 2 {
		t.Errorf("%+v", c)
	}
	if v := do(t, s, "GET", "info/"+c.ID, nil).json(t); v["truncated"] != "Yes" {
		t.Errorf("%v", v)
	}
	if r := put(t, s, "filename=x.pcap", []byte("no capture at all")); r.status != 400 {
		t.Errorf("%d", r.status)
	}
}
