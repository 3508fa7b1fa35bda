package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// captures writes the input: one big capture of 1500-byte packets, and a folder
// of small ones.
func (b *bencher) captures(big int64, small int) error {
	b.big, b.small = filepath.Join(b.dir, "big.pcap"), filepath.Join(b.dir, "small")
	var err error
	if b.bigBytes, err = writeCapture(b.big, big, 1); err != nil {
		return err
	}
	if err := os.Mkdir(b.small, 0o700); err != nil {
		return err
	}
	for i := range small {
		n, err := writeCapture(filepath.Join(b.small, fmt.Sprintf("%05d.pcap", i)), 100_000, uint64(i)+2)
		if err != nil {
			return err
		}
		b.smallBytes += n
	}
	return nil
}

func writeCapture(path string, size int64, seed uint64) (n int64, err error) {
	f, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := bufio.NewWriterSize(f, 1<<20)
	head := make([]byte, 24)
	for i, v := range []uint32{0xa1b2c3d4, 4<<16 | 2, 0, 0, 262144, 1} {
		binary.LittleEndian.PutUint32(head[4*i:], v)
	}
	_, _ = w.Write(head) // Flush reports it
	record := make([]byte, 16+1500)
	random := rand.New(rand.NewPCG(seed, 0))
	for i := range record[16:] {
		record[16+i] = byte(random.Uint32())
	}
	for n = 24; n < size; n += int64(len(record)) {
		seq := uint32(n / int64(len(record)))
		for i, v := range []uint32{1_750_000_000 + seq/1000, seq % 1000 * 1000, 1500, 1500} {
			binary.LittleEndian.PutUint32(record[4*i:], v)
		}
		_, _ = w.Write(record) // as above
	}
	return n, w.Flush()
}

func (b *bencher) inspect() error {
	one := []string{"GOMAXPROCS=1"}
	pin := func(args ...string) []string {
		if _, err := exec.LookPath("taskset"); err == nil {
			return append([]string{"taskset", "-c", "0"}, args...)
		}
		return args
	}
	state := b.env(filepath.Join(b.dir, "dry"), "http://127.0.0.1:9")
	return b.compare(fmt.Sprintf("Inspecting one cached capture of %d MB, one core", b.bigBytes/1e6), b.bigBytes,
		command{name: "capagent import --dry-run (SHA-256, SHA-1, packets, times)", args: pin(b.capagent, "import", "--dry-run", "--quiet", b.big), env: append(one, state...)},
		command{name: "capinfos -H (SHA-256, RIPEMD160, SHA-1, packets, times)", args: pinned(pin, "capinfos", "-H", "-c", "-a", "-e", b.big)},
		command{name: "capinfos -c -a -e (packets, times)", args: pinned(pin, "capinfos", "-c", "-a", "-e", b.big)},
		command{name: "sha256sum", args: pinned(pin, "sha256sum", b.big)},
	)
}

// pinned keeps a missing program visible behind taskset.
func pinned(pin func(...string) []string, args ...string) []string {
	if _, err := exec.LookPath(args[0]); err != nil {
		return args
	}
	return pin(args...)
}

func (b *bencher) env(state, url string) []string {
	return []string{
		"CAPAGENT_AGENT_STATE_DIR=" + state, "CAPAGENT_CLOUDSHARK_URL=" + url,
		"CAPAGENT_CLOUDSHARK_TOKEN=" + strings.Repeat("0123456789abcdef", 2),
	}
}

func (b *bencher) upload() error {
	sandbox, err := b.sandbox()
	if err != nil {
		return err
	}
	defer sandbox.stop()
	put := sandbox.url + "/api/v1/" + sandbox.token + "/upload?filename="
	// Each run finds an empty server and, but for a queued capture, an empty ledger.
	fresh := func(state string) func() error {
		return func() error { return errors.Join(sandbox.clear(b.ctx), os.RemoveAll(filepath.Join(b.dir, state))) }
	}
	env := func(state string) []string {
		return append(b.env(filepath.Join(b.dir, state), sandbox.url), "CAPAGENT_CLOUDSHARK_TOKEN="+sandbox.token)
	}
	// A wrong token leaves the capture inspected and queued: what is measured
	// then is the sending alone, with its search and its second hash.
	queued := func() error {
		if err := fresh("send")(); err != nil {
			return err
		}
		_, err := b.once(command{
			args: []string{b.capagent, "upload", "--quiet", b.big}, codes: []int{77},
			env: append(env("send"), "CAPAGENT_CLOUDSHARK_TOKEN="+strings.Repeat("0", 32)),
		})
		return err
	}
	err = b.compare(fmt.Sprintf("Uploading %d MB over loopback, one request", b.bigBytes/1e6), b.bigBytes,
		command{name: "curl -T", args: []string{"curl", "-sS", "-o", os.DevNull, "-T", b.big, put + "curl.pcap"}, before: fresh("none")},
		command{name: "capagent retry (search, send and hash again)", args: []string{b.capagent, "retry", "--quiet"}, env: env("send"), before: queued},
		command{name: "capagent upload (inspect and hash, then the same)", args: []string{b.capagent, "upload", "--quiet", b.big}, env: env("up"), before: fresh("up")},
	)
	if err != nil {
		return err
	}
	return b.compare(fmt.Sprintf("Uploading %d MB in small captures, two at a time", b.smallBytes/1e6), b.smallBytes,
		command{name: "curl -Z --parallel-max 2 -T", args: []string{"sh", "-c", "cd " + b.small + " && curl -sS -Z --parallel-max 2 --parallel-immediate $(for f in *; do printf -- '-T %s -o /dev/null %s%s ' $f '" + put + "' $f; done)"}, before: fresh("none")},
		command{name: "capagent import", args: []string{b.capagent, "import", "--quiet", b.small}, env: env("many"), before: fresh("many")},
	)
}

type sandbox struct {
	url, token string
	cmd        *exec.Cmd
}

func (b *bencher) sandbox() (*sandbox, error) {
	cmd := exec.CommandContext(b.ctx, b.capagent, "sandbox", "--json", "--listen", "127.0.0.1:0", "--dir", filepath.Join(b.dir, "sandbox"))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &sandbox{cmd: cmd}
	var ready struct {
		URL       string `json:"url"`
		TokenFile string `json:"token_file"`
	}
	if err := json.NewDecoder(out).Decode(&ready); err != nil {
		s.stop()
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	token, err := os.ReadFile(ready.TokenFile)
	s.url, s.token = strings.TrimSuffix(ready.URL, "/"), strings.TrimSpace(string(token))
	return s, err
}

// clear deletes every session, as its API allows.
func (s *sandbox) clear(ctx context.Context) error {
	api := s.url + "/api/v1/" + s.token
	var found struct {
		Captures []struct {
			ID string `json:"id"`
		} `json:"captures"`
	}
	reply, err := call(ctx, http.MethodGet, api+"/search")
	if err != nil {
		return err
	}
	if err := json.Unmarshal(reply, &found); err != nil {
		return err
	}
	for _, c := range found.Captures {
		if _, err := call(ctx, http.MethodPost, api+"/delete/"+c.ID); err != nil {
			return err
		}
	}
	return nil
}

func call(ctx context.Context, method, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "capagent-bench/1.0")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", method, resp.Status)
	}
	return io.ReadAll(resp.Body)
}

func (s *sandbox) stop() {
	_ = s.cmd.Process.Kill() // it may be gone
	_ = s.cmd.Wait()         // a killed process has nothing to say
}
