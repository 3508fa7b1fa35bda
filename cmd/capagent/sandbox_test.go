package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"capagent/enrich/threatconnecttest"
)

// askThreatConnect signs by hand: the sandbox is not asked by our own client.
func askThreatConnect(t *testing.T, s sandboxThreatConnect, path string) (int, string) {
	t.Helper()
	u, err := url.Parse(s.URL + path)
	if err != nil {
		t.Fatal(err)
	}
	stamp := fmt.Sprint(time.Now().Unix())
	mac := hmac.New(sha256.New, bytes.TrimSpace(readFile(t, s.SecretFile)))
	_, _ = fmt.Fprintf(mac, "%s:GET:%s", u.RequestURI(), stamp)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, u.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Timestamp", stamp)
	r.Header.Set("Authorization", "TC "+s.AccessID+":"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestSandboxServesThreatConnect(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startSandboxIn(t, dir, "--listen", "127.0.0.1:0")
	tc := s.ThreatConnect
	status, body := askThreatConnect(t, tc, "/v3/indicators?tql=summary%20in%20(%22sync.example.net%22)&fields=associatedGroups")
	if status != 200 || !strings.Contains(body, `"rating":5`) || !strings.Contains(body, "Quiet Heron") {
		t.Errorf("%d %s", status, body)
	}
	if status, _ := askThreatConnect(t, tc, "/v2/owners"); status != 200 {
		t.Errorf("%d", status)
	}
	if info, err := os.Stat(tc.SecretFile); err != nil || info.Mode().Perm()&0o077 != 0 && os.PathSeparator == '/' {
		t.Errorf("%v %v", info, err)
	}
	config := string(readFile(t, s.Config))
	for _, want := range []string{"\n[threatconnect]\n", fmt.Sprintf("\nurl = %q\n", tc.URL), fmt.Sprintf("\nsecret_key_file = %q\n", tc.SecretFile)} {
		if !strings.Contains(config, want) {
			t.Errorf("no %q in %s", want, config)
		}
	}
	secret := readFile(t, tc.SecretFile)
	if strings.Contains(config, strings.TrimSpace(string(secret))) {
		t.Error("the secret is in the configuration")
	}
	s.stop()
	again := startSandboxIn(t, dir, "--listen", "127.0.0.1:0", "--fault", "threatconnect:unlicensed:times=1", "--fault", "quota")
	if !bytes.Equal(readFile(t, again.ThreatConnect.SecretFile), secret) {
		t.Error("the secret changed")
	}
	for _, want := range []int{503, 200} {
		if status, _ := askThreatConnect(t, again.ThreatConnect, "/v3/security/owners"); status != want {
			t.Errorf("%d, expected %d", status, want)
		}
	}
}

func TestSandboxRefusesFaultsThatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"--fault", "threatconnect:nonsense"}, {"--fault", "threatconnect:hang:colour=red"}, {"--fault", "skew"}, {"--threatconnect", "0.0.0.0:0"}, {"--threatconnect", "x"},
	} {
		cmd := program(t.Context(), nil, append([]string{"sandbox", "--listen", "127.0.0.1:0", "--dir", t.TempDir()}, args...)...)
		var exit *exec.ExitError
		if out, err := cmd.CombinedOutput(); !errors.As(err, &exit) || exit.ExitCode() != exitUsage || !strings.Contains(string(out), args[0]) {
			t.Errorf("%q: %v %s", args, err, out)
		}
	}
	out, err := program(t.Context(), nil, "sandbox", "--faults").Output()
	if err != nil || !strings.Contains(string(out), "\nthreatconnect:hang ") || !strings.Contains(string(out), "\nquota ") {
		t.Errorf("%v %s", err, out)
	}
}

// What the demonstration knows is in the example captures, all of it, and each
// capture of the story has something that is worth a look.
func TestSandboxKnowsTheExampleCaptures(t *testing.T) {
	t.Parallel()
	known := threatconnecttest.New(threatconnecttest.Options{})
	known.Demo()
	match := func(i threatconnecttest.Indicator, kind, value string) bool {
		if strings.ReplaceAll(strings.ToLower(i.Type), " ", "_") != kind {
			return false
		}
		value = threatconnecttest.Canonical(i.Type, value)
		return slices.Contains(strings.Split(i.Value, " : "), value)
	}
	seen := map[int64]bool{}
	for name, flagged := range map[string]bool{
		"incident.pcapng": true, "branch-office/beacon.pcap": true, "download-nano.pcap": true, "ipv6-nd.pcap": true,
		"web.pcap": false, "dns.pcap": false, "yesterday.pcap.gz": false, "tls12.pcap": false, "tls13.pcap": false, "vlan.pcap": false,
	} {
		out, err := program(t.Context(), nil, "inspect", "--json", "--all", filepath.Join("..", "..", "examples", "captures", name)).Output()
		if err != nil {
			t.Fatal(err)
		}
		var capture struct {
			Indicators []struct{ Type, Value string }
		}
		if err := json.Unmarshal(out, &capture); err != nil {
			t.Fatal(err)
		}
		worst := 0.0
		for _, found := range capture.Indicators {
			for _, i := range known.Indicators() {
				if match(i, found.Type, found.Value) {
					seen[i.ID] = true
					if !i.Inactive {
						worst = max(worst, i.Rating)
					}
				}
			}
		}
		if flagged != (worst >= 3) {
			t.Errorf("%s: worst rating %v", name, worst)
		}
	}
	for _, i := range known.Indicators() {
		if !seen[i.ID] {
			t.Errorf("%s %s is in no example capture", i.Type, i.Value)
		}
	}
}
