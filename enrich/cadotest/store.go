package cadotest

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"capagent/internal/secret"
	"capagent/internal/standin"
)

// StoreOptions set a Store up. Dir is needed.
type StoreOptions struct {
	Dir             string // where objects lie; they stay there
	Bucket          string // "": "captures"
	AccessKeyID     string // "": random
	SecretAccessKey string // "": random
	MaxBytes        int64  // of all objects and parts; 0: 20 GB
	Log             zerolog.Logger
	Now             func() time.Time // nil: time.Now
}

// Store is as much of S3 as the agent uses, with one bucket, under path-style
// addresses. It is for the sandbox, where nobody has an account: it checks
// signatures and checksums, but it is never a proof that anything works with S3.
type Store struct {
	*standin.Server
	Bucket, AccessKeyID, SecretAccessKey string

	opts StoreOptions

	mu      sync.Mutex
	objects map[string]*stored
	uploads map[string]*multipart
	used    int64
}

type stored struct {
	path, sha256, kind string
	size               int64
	at                 time.Time
}

type multipart struct {
	key, sha256, kind string
	parts             map[int]*stored
}

// Limits of a Store.
const (
	maxObjects  = 100_000
	maxMultis   = 1000
	maxXML      = 4 << 20
	maxPartNo   = 10_000
	defaultRoom = 20_000_000_000
)

var storeKinds = []standin.Kind{
	{Name: "full", Meaning: "507: there is no room", Defaults: standin.Fault{Status: http.StatusInsufficientStorage}},
	{Name: "slowdown", Meaning: "503 SlowDown"},
}

// StoreKinds lists the faults of a Store.
func StoreKinds() []standin.Kind { return standin.Kinds(storeKinds) }

// NewStore returns an empty store.
func NewStore(o StoreOptions) *Store {
	s := &Store{Bucket: o.Bucket, AccessKeyID: o.AccessKeyID, SecretAccessKey: o.SecretAccessKey, opts: o, objects: map[string]*stored{}, uploads: map[string]*multipart{}}
	if s.Bucket == "" {
		s.Bucket = "captures"
	}
	if s.AccessKeyID == "" {
		s.AccessKeyID = "SANDBOX" + strings.ToUpper(standin.Random(6))
	}
	if s.SecretAccessKey == "" {
		s.SecretAccessKey = standin.Random(20)
	}
	if s.opts.MaxBytes == 0 {
		s.opts.MaxBytes = defaultRoom
	}
	if s.opts.Now == nil {
		s.opts.Now = time.Now
	}
	s.Server = standin.New(standin.Options{
		Name: "S3", API: s.api, Prefixes: []string{"/"}, Streams: []string{"/"}, Kinds: storeKinds,
		Failure: func(status int, text string) (string, []byte) {
			return "application/xml", s3Error(strconv.Itoa(status), text)
		},
		Secrets: []secret.Secret{secret.New(s.SecretAccessKey)}, Log: o.Log, Now: s.opts.Now,
	})
	return s
}

// StartStore returns a store that listens on a free port of 127.0.0.1 until the
// test ends.
func StartStore(t standin.TB, o StoreOptions) *Store {
	t.Helper()
	s := NewStore(o)
	s.Start(t)
	return s
}

// Objects lists the keys.
func (s *Store) Objects() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var keys []string
	for k := range s.objects {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func (s *Store) has(bucket, key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bucket == s.Bucket && s.objects[key] != nil
}

// open opens an object, or returns nil.
func (s *Store) open(bucket, key string) io.ReadCloser {
	s.mu.Lock()
	o := s.objects[key]
	s.mu.Unlock()
	if bucket != s.Bucket || o == nil {
		return nil
	}
	f, err := os.Open(o.path)
	if err != nil {
		return nil
	}
	return f
}

func s3Error(code, text string) []byte {
	data, err := xml.Marshal(struct {
		XMLName       xml.Name `xml:"Error"`
		Code, Message string
	}{Code: code, Message: text})
	if err != nil {
		panic(err) // our own types: cannot happen
	}
	return data
}

func (s *Store) refuse(c *standin.Call, status int, code string) {
	c.Send(status, "application/xml", s3Error(code, "the sandbox's store refuses this"))
}

func (s *Store) xml(c *standin.Call, v any) {
	data, err := xml.Marshal(v)
	if err != nil {
		panic(err)
	}
	c.Send(http.StatusOK, "application/xml", data)
}

func (s *Store) api(c *standin.Call) {
	bucket, key, _ := strings.Cut(strings.TrimPrefix(c.R.URL.Path, "/"), "/")
	q := c.R.URL.Query()
	switch code := s.checkSignature(c.R); {
	case c.Is("full"):
		s.refuse(c, c.Fault.Status, "InsufficientStorage")
	case c.Is("slowdown"):
		s.refuse(c, http.StatusServiceUnavailable, "SlowDown")
	case code != "":
		s.Count(code)
		s.refuse(c, http.StatusForbidden, code)
	case bucket != s.Bucket:
		s.refuse(c, http.StatusNotFound, "NoSuchBucket")
	case key == "" || len(key) > 1024:
		s.refuse(c, http.StatusBadRequest, "InvalidRequest")
	case q.Has("uploadId"):
		s.multipart(c, key, q.Get("uploadId"), q.Get("partNumber"))
	case c.R.Method == http.MethodPost && q.Has("uploads"):
		s.create(c, key)
	case c.R.Method == http.MethodPut:
		s.putObject(c, key)
	case c.R.Method == http.MethodGet || c.R.Method == http.MethodHead:
		s.getObject(c, key)
	default:
		s.refuse(c, http.StatusNotImplemented, "NotImplemented")
	}
}

func (s *Store) getObject(c *standin.Call, key string) {
	s.mu.Lock()
	o := s.objects[key]
	s.mu.Unlock()
	if o == nil {
		s.refuse(c, http.StatusNotFound, "NoSuchKey")
		return
	}
	f, err := os.Open(o.path)
	if err != nil {
		s.refuse(c, http.StatusInternalServerError, "InternalError")
		return
	}
	defer func() { _ = f.Close() }()
	c.W.Header().Set("X-Amz-Meta-Sha256", o.sha256)
	c.W.Header().Set("Content-Type", o.kind)
	http.ServeContent(c.W, c.R, "", o.at, f)
}

// receive writes a request's body to a file, and checks what it was said to be.
func (s *Store) receive(c *standin.Call) (*stored, string) {
	s.mu.Lock()
	room := s.opts.MaxBytes - s.used
	s.mu.Unlock()
	if c.R.ContentLength > room { // said before the body comes
		return nil, "InsufficientStorage"
	}
	if err := os.MkdirAll(s.opts.Dir, 0o700); err != nil {
		return nil, "InternalError"
	}
	f, err := os.CreateTemp(s.opts.Dir, "object-*")
	if err != nil {
		return nil, "InternalError"
	}
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, h), io.LimitReader(c.R.Body, max(room, 0)+1))
	err = errors.Join(err, f.Close())
	o := &stored{path: f.Name(), size: n, at: s.opts.Now(), kind: c.R.Header.Get("Content-Type"), sha256: c.R.Header.Get("X-Amz-Meta-Sha256")}
	code := ""
	switch sum := c.R.Header.Get("X-Amz-Content-Sha256"); {
	case n > room:
		code = "InsufficientStorage"
	case err != nil || c.R.ContentLength >= 0 && n != c.R.ContentLength:
		code = "IncompleteBody"
	case sum != hex.EncodeToString(h.Sum(nil)) && sum != "UNSIGNED-PAYLOAD":
		code = "XAmzContentSHA256Mismatch"
	case c.R.Header.Get("X-Amz-Checksum-Sha256") != base64.StdEncoding.EncodeToString(h.Sum(nil)):
		code = "BadDigest"
	}
	if code != "" {
		_ = os.Remove(o.path)
		return nil, code
	}
	s.mu.Lock()
	s.used += n
	s.mu.Unlock()
	return o, ""
}

func (s *Store) failed(c *standin.Call, code string) {
	status := http.StatusBadRequest
	if code == "InsufficientStorage" || code == "InternalError" {
		status = http.StatusInsufficientStorage
	}
	s.refuse(c, status, code)
}

// add makes an object visible, unless the key is taken and that matters.
func (s *Store) add(c *standin.Call, key string, o *stored) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.objects[key]
	if old != nil && c.R.Header.Get("If-None-Match") == "*" || len(s.objects) >= maxObjects {
		s.drop(o)
		return false
	}
	if old != nil {
		s.Count("overwritten")
		s.drop(old)
	}
	s.objects[key] = o
	return true
}

// drop removes what nobody can see any more. s.mu is held.
func (s *Store) drop(o *stored) {
	s.used -= o.size
	_ = os.Remove(o.path)
}

func (s *Store) putObject(c *standin.Call, key string) {
	o, code := s.receive(c)
	switch {
	case code != "":
		s.failed(c, code)
	case !s.add(c, key, o):
		s.refuse(c, http.StatusPreconditionFailed, "PreconditionFailed")
	default:
		c.W.Header().Set("ETag", `"`+standin.Random(16)+`"`)
		c.Send(http.StatusOK, "application/xml", nil)
	}
}
