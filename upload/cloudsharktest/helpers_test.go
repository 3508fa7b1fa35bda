package cloudsharktest

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		os.Exit(code)
	}))
}

const agent = "emutest/1.0"

// start gives a server, and checks when the test ends that no token got out.
func start(t *testing.T, opts Options) *Server {
	t.Helper()
	s := Start(t, opts)
	t.Cleanup(func() {
		text := strings.ToLower(fmt.Sprintf("%+v %+v %+v", s.Requests(), s.Violations(), s.Counters()))
		for token := range s.tokens {
			if strings.Contains(text, token) {
				t.Errorf("a token stands in what the server remembers: %s", text)
			}
		}
	})
	return s
}

// packet gives an Ethernet frame with an UDP datagram of size bytes in all.
func packet(n, size int) []byte {
	p := make([]byte, max(size, 60))
	copy(p, []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 198, 51, 100, 2})
	binary.BigEndian.PutUint16(p[16:], uint16(len(p)-14))
	binary.BigEndian.PutUint16(p[34:], uint16(1024+n%60000))
	binary.BigEndian.PutUint16(p[36:], 9999)
	binary.BigEndian.PutUint16(p[38:], uint16(len(p)-34))
	return p
}

var firstPacket = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// pcap gives a capture of n packets, a millisecond apart, of size bytes each.
func pcap(n, size int) []byte {
	out := binary.LittleEndian.AppendUint32(nil, 0xa1b2c3d4)
	out = append(out, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0)
	for i := range n {
		at := firstPacket.Add(time.Duration(i) * time.Millisecond)
		p := packet(i, size)
		out = binary.LittleEndian.AppendUint32(out, uint32(at.Unix()))
		out = binary.LittleEndian.AppendUint32(out, uint32(at.Nanosecond()/1000))
		out = binary.LittleEndian.AppendUint32(out, uint32(len(p)))
		out = binary.LittleEndian.AppendUint32(out, uint32(len(p)))
		out = append(out, p...)
	}
	return out
}

type reply struct {
	status int
	header http.Header
	body   []byte
	err    error
}

func (r reply) json(t *testing.T) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal(r.body, &v); err != nil {
		t.Fatalf("reply %d %q is not JSON: %v (%v)", r.status, r.body, err, r.err)
	}
	return v
}

func (r reply) exceptions() string {
	var v struct {
		Status     int
		Exceptions []string
	}
	if json.Unmarshal(r.body, &v) != nil || v.Status != r.status {
		return fmt.Sprintf("not an exceptions reply: %d %q %v", r.status, r.body, r.err)
	}
	return strings.Join(v.Exceptions, "; ")
}

type option func(*http.Request)

func header(key, value string) option { return func(r *http.Request) { r.Header.Set(key, value) } }

func noRedirects(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// do sends one request; rest is what follows the token in the path.
func do(t *testing.T, s *Server, verb, rest string, body io.Reader, opts ...option) reply {
	t.Helper()
	return doURL(t, verb, s.URL+"/api/v1/"+s.Token+"/"+rest, body, opts...)
}

func doURL(t *testing.T, verb, url string, body io.Reader, opts ...option) reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), verb, url, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("User-Agent", agent)
	for _, o := range opts {
		o(req)
	}
	client := &http.Client{CheckRedirect: noRedirects}
	resp, err := client.Do(req)
	if err != nil {
		return reply{err: err}
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, resp.Header, data, err}
}

func put(t *testing.T, s *Server, query string, data []byte, opts ...option) reply {
	t.Helper()
	return do(t, s, "PUT", "upload?"+query, bytes.NewReader(data), opts...)
}

// mustPut uploads and returns the session.
func mustPut(t *testing.T, s *Server, query string, data []byte) Session {
	t.Helper()
	r := put(t, s, query, data)
	if r.err != nil || r.status != 200 {
		t.Fatalf("upload: %d %s %v", r.status, r.body, r.err)
	}
	session, ok := s.Session(r.json(t)["id"].(string))
	if !ok {
		t.Fatalf("no session for %s", r.body)
	}
	return session
}

type field struct{ name, file, value string }

func form(fields ...field) (io.Reader, option) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for _, f := range fields {
		var to io.Writer
		if f.file != "" {
			to, _ = w.CreateFormFile(f.name, f.file)
		} else {
			to, _ = w.CreateFormField(f.name)
		}
		_, _ = io.WriteString(to, f.value)
	}
	_ = w.Close()
	return &b, header("Content-Type", w.FormDataContentType())
}

func post(t *testing.T, s *Server, query string, fields ...field) reply {
	t.Helper()
	body, kind := form(fields...)
	return do(t, s, "POST", "upload?"+query, body, kind)
}

// tool finds an external program. Its absence fails the test in CI only.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	return path
}
