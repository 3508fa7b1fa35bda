package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// fields are what tshark is asked for.
var fields = []string{
	"ip.src", "ip.dst", "ipv6.src", "ipv6.dst",
	"dns.qry.name", "dns.resp.name", "dns.a", "dns.aaaa", "dns.cname", "dns.ns", "dns.ptr.domain_name",
	"dns.mx.mail_exchange", "dns.srv.target", "dns.soa.mname", "nbns.name",
	"http.host", "http.request.full_uri", "http.user_agent",
	"http2.headers.authority", "http2.request.full_uri", "http2.headers.user_agent",
	"tls.handshake.extensions_server_name", "tls.handshake.ja3", "tls.handshake.certificate",
	"dtls.handshake.extensions_server_name",
	"smtp.req.parameter", "imf.from", "imf.to", "imf.cc",
	"dhcp.option.hostname", "dhcp.fqdn.name", "communityid",
}

// objects are the kinds of bodies that tshark is asked to export.
var objects = []string{"http", "ftp-data"}

// answer is what tshark says of one capture: for each field its values, with the
// first frame of each; for objects the SHA-256 of each body, without frames.
type answer struct {
	Error  string                      `json:"error,omitempty"`
	Values map[string]map[string]int64 `json:"values"`
}

// ask returns tshark's answer, the remembered one if there is one; with known
// nothing if there is none.
func ask(ctx context.Context, cache, path string, known bool) (answer, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return answer{}, err
	}
	sum := sha256.Sum256(append([]byte(strings.Join(append(fields, objects...), " ")), content...))
	kept := filepath.Join(cache, hex.EncodeToString(sum[:])+".json")
	var a answer
	b, err := os.ReadFile(kept)
	if err == nil {
		return a, json.Unmarshal(b, &a)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return a, err
	}
	if known {
		return a, nil
	}
	if a, err = tshark(ctx, path); err != nil {
		return a, err
	}
	if b, err = json.Marshal(a); err != nil {
		return a, err
	}
	return a, os.WriteFile(kept, b, 0o644)
}

func tshark(ctx context.Context, path string) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	a := answer{Values: map[string]map[string]int64{}}
	args := []string{"-n", "-r", path, "-T", "fields", "-E", "separator=\x1f", "-E", "occurrence=a", "-E", "aggregator=\x1e", "-e", "frame.number", "-e", "frame.protocols"}
	for _, f := range fields {
		args = append(args, "-e", f)
	}
	cmd := exec.CommandContext(ctx, "tshark", args...)
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.StdoutPipe()
	if err != nil {
		return a, err
	}
	if err := cmd.Start(); err != nil {
		return a, err
	}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 64<<20)
	seen := map[string]bool{}
	for lines.Scan() {
		a.line(lines.Text(), seen)
	}
	if err := cmd.Wait(); err != nil {
		a.Error = strings.TrimSpace(complaints.String())
	}
	if err := errors.Join(lines.Err(), ctx.Err()); err != nil {
		return a, err
	}
	for _, kind := range objects {
		if !seen[kind] {
			continue
		}
		if err := a.export(ctx, path, kind); err != nil {
			return a, err
		}
	}
	return a, nil
}

// line takes what is printed of one frame, and notes which protocols were seen.
func (a answer) line(text string, seen map[string]bool) {
	columns := strings.Split(text, "\x1f")
	if len(columns) != len(fields)+2 {
		return
	}
	for _, kind := range objects {
		if strings.Contains(columns[1], ":"+kind) {
			seen[kind] = true
		}
	}
	var frame int64
	if _, err := fmt.Sscan(columns[0], &frame); err != nil {
		return
	}
	for i, f := range fields {
		if columns[i+2] == "" {
			continue
		}
		for v := range strings.SplitSeq(columns[i+2], "\x1e") {
			a.put(f, v, frame)
		}
	}
}

func (a answer) put(field, value string, frame int64) {
	if a.Values[field] == nil {
		a.Values[field] = map[string]int64{}
	}
	if _, known := a.Values[field][value]; !known {
		a.Values[field][value] = frame
	}
}

// export has tshark write the bodies and takes their digests.
func (a answer) export(ctx context.Context, path, kind string) error {
	dir, err := os.MkdirTemp("", "oracle")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	cmd := exec.CommandContext(ctx, "tshark", "-n", "-q", "-r", path, "--export-objects", kind+","+dir)
	_ = cmd.Run() // what it says was said before
	bodies, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range bodies {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		if len(b) > 0 {
			sum := sha256.Sum256(b)
			a.put("export."+kind, hex.EncodeToString(sum[:]), 0)
		}
	}
	return nil
}
