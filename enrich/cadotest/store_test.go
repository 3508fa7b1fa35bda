package cadotest_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"capagent/enrich/cado/bucket"
	"capagent/enrich/cadotest"
	"capagent/internal/failure"
	"capagent/internal/secret"
	"capagent/internal/standin"
)

func startStore(t *testing.T) (*cadotest.Store, string, func(change ...func(*bucket.Options)) *bucket.Bucket) {
	t.Helper()
	dir := t.TempDir()
	s := cadotest.StartStore(t, cadotest.StoreOptions{Dir: dir, MaxBytes: 40 << 20})
	return s, dir, func(change ...func(*bucket.Options)) *bucket.Bucket {
		o := bucket.Options{Bucket: s.Bucket, Endpoint: s.URL, PathStyle: true, AccessKeyID: s.AccessKeyID, SecretAccessKey: secret.New(s.SecretAccessKey), PartSize: 1 << 20}
		for _, f := range change {
			f(&o)
		}
		b, err := bucket.New(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(b.Close)
		return b
	}
}

func file(key string, data []byte) bucket.File {
	return bucket.File{Key: key, Size: int64(len(data)), SHA256: sha256.Sum256(data), Content: bytes.NewReader(data)}
}

func TestTheStoreKeepsWhatIsSent(t *testing.T) {
	s, dir, open := startStore(t)
	b := open()
	large := bytes.Repeat([]byte("0123456789abcdef"), 300_000)
	for key, data := range map[string][]byte{"empty": {}, "a b/ü+%.pcap": []byte("packets"), "large": large} {
		f := file(key, data)
		if stored, err := b.Put(t.Context(), f); err != nil || stored.Sent != f.Size {
			t.Fatalf("%s: %+v %v", key, stored, err)
		}
		if stored, err := b.Put(t.Context(), f); err != nil || !stored.Existed {
			t.Errorf("%s: %+v %v", key, stored, err)
		}
		other := file(key, append(data, 'x'))
		if _, err := b.Put(t.Context(), other); failure.As(err).Class != bucket.ClassExists {
			t.Errorf("%s: %v", key, err)
		}
	}
	if n := len(s.Objects()); n != 3 || s.Counted("overwritten") != 0 {
		t.Errorf("%d objects", n)
	}
	if files, _ := os.ReadDir(dir); len(files) != 3 {
		t.Errorf("%d files", len(files))
	}

	// An upload goes on.
	ctx, cancel := context.WithCancel(t.Context())
	f := file("resumed", large)
	f.Begun = func(u string) error { f.Upload = u; return nil }
	f.Sent = func(n int64) {
		if n >= 2<<20 {
			cancel()
		}
	}
	if _, err := b.Put(ctx, f); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	f.Sent = nil
	stored, err := b.Put(t.Context(), f)
	if err != nil || stored.Kept < 2<<20 || stored.Sent+stored.Kept != f.Size {
		t.Errorf("%+v %v", stored, err)
	}
	if files, _ := os.ReadDir(dir); len(files) != 4 {
		t.Errorf("%d files", len(files))
	}
}

func TestTheStoreRefuses(t *testing.T) {
	s, _, open := startStore(t)
	for _, test := range []struct {
		class  string
		change func(*bucket.Options)
	}{
		{bucket.ClassBadCredentials, func(o *bucket.Options) { o.SecretAccessKey = secret.New("another-secret") }},
		{bucket.ClassBadCredentials, func(o *bucket.Options) { o.AccessKeyID = "ANOTHER" }},
		{bucket.ClassNoBucket, func(o *bucket.Options) { o.Bucket = "another" }},
	} {
		_, err := open(test.change).Put(t.Context(), file("x", []byte("x")))
		if failure.As(err).Class != test.class {
			t.Errorf("%s: %v", test.class, err)
		}
	}
	for fault, class := range map[string]string{"full": bucket.ClassFull, "slowdown": bucket.ClassBusy} {
		s.SetFault(standin.Fault{Name: fault})
		_, err := open().Put(t.Context(), file("x", []byte("x")))
		if failure.As(err).Class != class {
			t.Errorf("%s: %v", class, err)
		}
	}
	s.ClearFaults()
	// There is no room for that, and nothing of it stays.
	big := make([]byte, 41<<20)
	_, err := open(func(o *bucket.Options) { o.PartSize = 50 << 20 }).Put(t.Context(), file("x", big))
	if failure.As(err).Class != bucket.ClassFull {
		t.Error(err)
	}
	if len(s.Objects()) != 0 {
		t.Error(s.Objects())
	}
}

// A request that was signed is taken; with anything changed it is not.
func TestTheStoreChecksSignatures(t *testing.T) {
	s, _, open := startStore(t)
	var sent *http.Request
	var body []byte
	spy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			sent = r.Clone(context.Background())
			body, _ = io.ReadAll(r.Body)
			w.WriteHeader(http.StatusForbidden)
			return
		}
		w.WriteHeader(http.StatusNotFound)
	}))
	defer spy.Close()
	_, err := open(func(o *bucket.Options) { o.Endpoint = spy.URL }).Put(t.Context(), file("k", []byte("packets")))
	if err == nil || sent == nil {
		t.Fatal(err)
	}
	try := func(change func(*http.Request)) int {
		r := sent.Clone(t.Context())
		r.Body = io.NopCloser(bytes.NewReader(body))
		change(r)
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		return w.Code
	}
	for name, change := range map[string]func(*http.Request){
		"path":     func(r *http.Request) { r.URL.Path = "/captures/other" },
		"query":    func(r *http.Request) { r.URL.RawQuery = "partNumber=1" },
		"method":   func(r *http.Request) { r.Method = http.MethodPost },
		"host":     func(r *http.Request) { r.Host = "elsewhere" },
		"metadata": func(r *http.Request) { r.Header.Set("X-Amz-Meta-Sha256", "00") },
		"date": func(r *http.Request) {
			r.Header.Set("X-Amz-Date", time.Now().Add(-time.Hour).UTC().Format("20060102T150405Z"))
		},
		"signature": func(r *http.Request) { r.Header.Set("Authorization", r.Header.Get("Authorization")+"0") },
		"nothing":   func(r *http.Request) { r.Header.Del("Authorization") },
		"v2":        func(r *http.Request) { r.Header.Set("Authorization", "AWS "+s.AccessKeyID+":x") },
		"content":   func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader("PACKETS")) },
		"no sum":    func(r *http.Request) { r.Header.Set("X-Amz-Content-Sha256", "x") },
	} {
		if code := try(change); code/100 != 4 {
			t.Errorf("%s: %d", name, code)
		}
	}
	if code := try(func(*http.Request) {}); code != http.StatusOK {
		t.Errorf("unchanged: %d", code)
	}
}

func FuzzStore(f *testing.F) {
	f.Add("PUT", "/captures/x", "AWS4-HMAC-SHA256 Credential=K/20260101/us-east-1/s3/aws4_request, SignedHeaders=host;x-amz-date, Signature=00", "20260101T000000Z")
	f.Add("GET", "/captures/x?uploadId=1", "AWS4-HMAC-SHA256 Credential=K////aws4_request,SignedHeaders=;;,Signature==", "x")
	f.Fuzz(func(t *testing.T, method, target, authorization, date string) {
		s := cadotest.NewStore(cadotest.StoreOptions{Dir: t.TempDir(), AccessKeyID: "K", SecretAccessKey: "a secret that nobody knows"})
		defer func() { _ = s.Close() }()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", strings.NewReader("x"))
		u, err := r.URL.Parse(target)
		if err != nil || !strings.HasPrefix(target, "/") {
			return
		}
		r.Method, r.URL, r.RequestURI = method, u, target
		r.Header.Set("Authorization", authorization)
		r.Header.Set("X-Amz-Date", date)
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		if w.Code/100 == 2 || len(s.Objects()) != 0 {
			t.Errorf("%s %s: %d", method, target, w.Code)
		}
	})
}
