package enrich_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"capagent/enrich"
	"capagent/internal/inspect"
	"capagent/internal/pcapio"
)

// look reads an example capture.
func look(t *testing.T, name string, wanted ...int64) (enrich.Result, map[int64]enrich.Ends) {
	t.Helper()
	f, err := os.Open("../examples/captures/" + name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }() // only read
	a, ends := enrich.New(), enrich.NewEndsOf(wanted)
	more := true
	_, err = inspect.File(t.Context(), f, inspect.Observer{Packet: func(p *pcapio.Packet) {
		a.Packet(p)
		if more {
			more = ends.Packet(p)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	return a.Close(), ends.Close()
}

func senders(r enrich.Result) []string {
	list := []string{}
	for _, s := range r.Senders {
		list = append(list, fmt.Sprintf("%x %v %d in %d", s.MAC, s.IPs, s.Behind, s.First.Frame))
	}
	return list
}

// TestMachinesOfACapture: who sent for which addresses, and what names were resolved to.
func TestMachinesOfACapture(t *testing.T) {
	r, ends := look(t, "web.pcap", 2, 4, 99)
	want := []string{"00005e005317 [192.0.2.17] 1 in 1", "00005e005335 [192.0.2.53] 1 in 2", "00005e005350 [192.0.2.80] 1 in 4"}
	if diff := cmp.Diff(want, senders(r)); diff != "" {
		t.Error(diff)
	}
	if got := fmt.Sprint(r.Resolved); got != "[{portal.example.com 192.0.2.80}]" {
		t.Error(got)
	}
	if got := fmt.Sprint(ends); got != "map[2:{192.0.2.53 192.0.2.17 [0 0 94 0 83 53]} 4:{192.0.2.80 192.0.2.17 [0 0 94 0 83 80]}]" {
		t.Error(got)
	}
}

// TestSendersAreThoseOfTshark compares with tshark, for every example.
func TestSendersAreThoseOfTshark(t *testing.T) {
	tshark, err := exec.LookPath("tshark")
	if err != nil {
		t.Skip("tshark is not installed")
	}
	files, err := filepath.Glob("../examples/captures/*.pcap*")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		name := filepath.Base(file)
		if name == "empty.pcap" {
			continue
		}
		out, err := exec.Command(tshark, "-n", "-r", file, "-T", "fields", "-E", "occurrence=f", "-e", "eth.src", "-e", "sll.src.eth", "-e", "ip.src", "-e", "ipv6.src").Output()
		if err != nil && name != "truncated.pcap" {
			t.Fatal(name, err)
		}
		want := map[string]bool{}
		for line := range strings.Lines(string(out)) {
			f := strings.Split(strings.TrimRight(line, "\n"), "\t")
			mac, ip := strings.ReplaceAll(f[0]+f[1], ":", ""), f[2]+f[3]
			if mac != "" && ip != "" && ip != "0.0.0.0" && ip != "::" {
				want[mac+" "+ip] = true
			}
		}
		r, _ := look(t, name)
		got := map[string]bool{}
		for _, s := range r.Senders {
			for _, ip := range s.IPs {
				got[fmt.Sprintf("%x %v", s.MAC, ip)] = true
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}
