package cloudsharktest

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// The forms that the vendor documents, by the program that they are documented
// for.
func TestTheDocumentedCurlFormsAreAccepted(t *testing.T) {
	curl := tool(t, "curl")
	s := start(t, Options{})
	data := pcap(3000, 1000) // large enough for curl to ask "100-continue"
	file := filepath.Join(t.TempDir(), "x.pcap")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	url := s.URL + "/api/v1/" + s.Token + "/upload"
	for _, c := range []struct {
		filename, method string
		args             []string
	}{
		{"x.pcap", "POST", []string{"-F", "file=@" + file, url}},
		{"n.pcap", "POST", []string{"-F", "file=@" + file, "-F", "additional_tags=a,b", "-F", "comments=hi", "-F", "filename=n.pcap", url}},
		{"q.pcap", "POST", []string{"-F", "file=@" + file, url + "?filename=q.pcap&additional_tags=a,b"}},
		{"k.pcap", "POST", []string{"-F", "file=@" + file, "-F", "keylog=@" + file, "-F", "filename=k.pcap", url}},
		{"x.pcap", "PUT", []string{"-T", file, url + "?filename=x.pcap"}},
		{"x.pcap", "PUT", []string{"--upload-file", file, url + "?filename=x.pcap&additional_tags=a,b&comments=some%20text"}},
		{"b.pcap", "PUT", []string{"-X", "PUT", "--data-binary", "@" + file, url + "?filename=b.pcap"}},
		{"c.pcap", "PUT", []string{"-T", file, "-H", "Transfer-Encoding: chunked", url + "?filename=c.pcap"}},
		{"a.pcap", "PUT", []string{"-A", "Wireshark/4.0", "-T", file, "--user", "u:p", url + "?filename=a.pcap"}},
	} {
		out, err := exec.Command(curl, append([]string{"-sS", "--fail", "--max-time", "20"}, c.args...)...).CombinedOutput()
		var reply struct{ ID, Filename string }
		if err != nil || json.Unmarshal(out, &reply) != nil || reply.Filename != c.filename {
			t.Errorf("curl %q: %s %v", c.args, out, err)
			continue
		}
		got, ok := s.Session(reply.ID)
		if !ok || got.Size != int64(len(data)) || got.Packets != 3000 || got.Method != c.method {
			t.Errorf("curl %q: %+v", c.args, got)
		}
		if slices.ContainsFunc(c.args, func(a string) bool { return a == "additional_tags=a,b" }) && !slices.Equal(got.Tags, []string{"a", "b"}) {
			t.Errorf("tags %q", got.Tags)
		}
	}
	if v := s.Violations(); len(v) > 0 {
		t.Errorf("violations %q", v)
	}
}

func TestCurlReadsTheReasonOfAnEarlyRefusal(t *testing.T) {
	curl := tool(t, "curl")
	s := start(t, Options{MaxSize: 1 << 20})
	file := filepath.Join(t.TempDir(), "x.pcap")
	if err := os.WriteFile(file, pcap(8000, 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, expect := range []string{"Expect:", "Expect: 100-continue"} {
		out, err := exec.Command(curl, "-sS", "--max-time", "20", "-w", "%{http_code}", "-H", expect, "-T", file,
			s.URL+"/api/v1/"+s.Token+"/upload?filename=x.pcap").CombinedOutput()
		want := `{"status":413,"exceptions":["Capture file is too large: the limit is 1048576 bytes"]}413`
		if err != nil || string(out) != want {
			t.Errorf("%s: %q %v", expect, out, err)
		}
	}
}
