package bucket

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"capagent/internal/failure"
	"capagent/internal/secret"
)

const (
	testID     = "AKIDFORTESTS"
	testSecret = "ThisIsNotARealSecret/0123456789+abcdef"
	testBucket = "captures"
)

// gateway is versitygw in a process of its own: a store that checks signatures and
// checksums.
type gateway struct {
	url, dir string
}

func startGateway(t testing.TB) *gateway {
	t.Helper()
	program, err := exec.LookPath("versitygw")
	if err != nil {
		t.Skip("versitygw is not in PATH: go install github.com/versity/versitygw/cmd/versitygw@v1.8.0")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	g := &gateway{url: "http://" + address, dir: t.TempDir()}
	if err := os.Mkdir(filepath.Join(g.dir, testBucket), 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "--port", address, "--quiet", "posix", g.dir)
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+testID, "ROOT_SECRET_KEY="+testSecret)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("versitygw: %.2000s", out.String())
		}
	})
	for end := time.Now().Add(20 * time.Second); ; {
		if resp, err := http.Get(g.url); err == nil {
			_ = resp.Body.Close()
			return g
		}
		if time.Now().After(end) {
			t.Skipf("versitygw does not start: %.500s", out.String())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (g *gateway) options() Options {
	return Options{Bucket: testBucket, Endpoint: g.url, PathStyle: true, AccessKeyID: testID, SecretAccessKey: secret.New(testSecret), Table: "cado", UserAgent: "capagent/test"}
}

func newBucket(t testing.TB, o Options) *Bucket {
	t.Helper()
	b, err := New(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// content is so many bytes that nothing compresses.
func content(seed uint64, size int) []byte {
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(data)
	return data
}

func file(key string, data []byte) File {
	return File{Key: key, Size: int64(len(data)), SHA256: sha256.Sum256(data), Content: bytes.NewReader(data)}
}

// object reads what the store has; nil when it has nothing.
func object(t testing.TB, b *Bucket, key string) []byte {
	t.Helper()
	out, err := b.s3.GetObject(context.Background(), &s3.GetObjectInput{Bucket: &b.opts.Bucket, Key: &key}, func(o *s3.Options) { o.HTTPClient = http.DefaultClient })
	if err != nil {
		if status(err) != 404 {
			t.Error(err)
		}
		return nil
	}
	defer func() { _ = out.Body.Close() }()
	data, err := io.ReadAll(out.Body)
	if err != nil {
		t.Error(err)
	}
	return data
}

// uploads counts the multipart uploads that the store holds open.
func uploads(t testing.TB, b *Bucket) int {
	t.Helper()
	out, err := b.s3.ListMultipartUploads(context.Background(), &s3.ListMultipartUploadsInput{Bucket: aws.String(testBucket)})
	if err != nil {
		t.Error(err)
		return -1
	}
	return len(out.Uploads)
}

func isFailure(t *testing.T, err error, kind failure.Kind, class string) *failure.Error {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; want %s", class)
	}
	f := failure.As(err)
	if f.Kind != kind || f.Class != class {
		t.Fatalf("got %s/%s (%v), want %s/%s", f.Kind, f.Class, err, kind, class)
	}
	if kind != failure.Retry && (f.Hint == "" || strings.Contains(f.Hint, "%")) {
		t.Errorf("hint %q of %v", f.Hint, err)
	}
	for _, hidden := range []string{testSecret, testSecret[5:20], "Signature="} {
		if strings.Contains(err.Error()+f.Hint, hidden) {
			t.Fatalf("the error shows a secret: %v", err)
		}
	}
	if text := err.Error(); len(text) > 1000 || strings.ContainsAny(text, "\n\x1b") {
		t.Errorf("%q", text)
	}
	return f
}

// broken is a body that can't be read from some place on.
type broken struct {
	io.ReaderAt
	from int64
}

var errBroken = errors.New("input/output error")

func (b broken) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > b.from {
		return 0, fmt.Errorf("read at %d: %w", off, errBroken)
	}
	return b.ReaderAt.ReadAt(p, off)
}
