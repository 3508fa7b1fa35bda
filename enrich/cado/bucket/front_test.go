package bucket

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"capagent/internal/failure"
	"capagent/internal/httpx"
)

// front stands before the gateway and answers some requests itself: those for which
// f reports true.
func front(t *testing.T, g *gateway, f func(w http.ResponseWriter, r *http.Request) bool) Options {
	t.Helper()
	to, err := url.Parse(g.url)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(to) // the Host stays, which is signed
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !f(w, r) {
			proxy.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(srv.Close)
	o := g.options()
	o.Endpoint = srv.URL
	parts(&o)
	return o
}

func s3Error(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, `<?xml version="1.0"?><Error><Code>%s</Code><Message>the store's own text %s X-Amz-Signature=0123</Message></Error>`, code, testSecret)
}

func TestWhatStoresAnswer(t *testing.T) {
	g := startGateway(t)
	for _, test := range []struct {
		name   string
		answer func(w http.ResponseWriter, r *http.Request)
		kind   failure.Kind
		class  string
	}{
		{"slow down", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "9")
			s3Error(w, 503, "SlowDown")
		}, failure.Retry, ClassBusy},
		{"full", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(507) }, failure.Pause, ClassFull},
		{"full, MinIO's word", func(w http.ResponseWriter, _ *http.Request) { s3Error(w, 507, "XMinioStorageFull") }, failure.Pause, ClassFull},
		{"quota", func(w http.ResponseWriter, _ *http.Request) { s3Error(w, 403, "QuotaExceeded") }, failure.Pause, ClassFull},
		{"denied", func(w http.ResponseWriter, _ *http.Request) { s3Error(w, 403, "AccessDenied") }, failure.Pause, ClassDenied},
		{"expired", func(w http.ResponseWriter, _ *http.Request) { s3Error(w, 400, "ExpiredToken") }, failure.Pause, ClassBadCredentials},
		{"clock", func(w http.ResponseWriter, _ *http.Request) { s3Error(w, 403, "RequestTimeTooSkewed") }, failure.Pause, ClassClock},
		{"region, by redirect", func(w http.ResponseWriter, _ *http.Request) { s3Error(w, 301, "PermanentRedirect") }, failure.Pause, ClassRegion},
		{"region, plainly", func(w http.ResponseWriter, _ *http.Request) { s3Error(w, 400, "AuthorizationHeaderMalformed") }, failure.Pause, ClassRegion},
		{"a redirect to somewhere", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "http://elsewhere.invalid/?X-Amz-Signature=0123")
			w.WriteHeader(307)
		}, failure.Pause, ClassRegion},
		{"broken", func(w http.ResponseWriter, _ *http.Request) { s3Error(w, 500, "InternalError") }, failure.Retry, ClassServer},
		{"broken, as a page", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(500)
			fmt.Fprint(w, "<html>\x1b[31m\n"+testSecret)
		}, failure.Retry, ClassServer},
		{"no XML", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(403)
			fmt.Fprint(w, "<Error><Code>Acc")
		}, failure.Pause, ClassDenied},
		{"too large", func(w http.ResponseWriter, _ *http.Request) { s3Error(w, 400, "EntityTooLarge") }, failure.Permanent, ClassRefused},
		{"damaged", func(w http.ResponseWriter, _ *http.Request) { s3Error(w, 400, "BadDigest") }, failure.Retry, ClassDamaged},
		{"a long text", func(w http.ResponseWriter, _ *http.Request) { s3Error(w, 500, strings.Repeat("x\n", 50_000)) }, failure.Retry, ClassServer},
		{"a reply without end", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(500)
			for range 10_000 { // 30 MB
				if _, err := w.Write(bytes.Repeat([]byte("<a>"), 1000)); err != nil {
					return
				}
			}
		}, failure.Retry, ClassServer},
		{"it closes", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, failure.Retry, httpx.ClassNetwork},
	} {
		for _, when := range []string{"HEAD ", "PUT /captures/small", "POST /captures/large?uploads", "PUT /captures/large?", "POST /captures/large?uploadId"} {
			t.Run(test.name+" "+when, func(t *testing.T) {
				var seen atomic.Int64
				o := front(t, g, func(w http.ResponseWriter, r *http.Request) bool {
					looks := when == "HEAD " && r.Method == "GET"
					if !looks && !strings.HasPrefix(r.Method+" "+r.RequestURI, when) {
						return false
					}
					seen.Add(1)
					test.answer(w, r)
					return true
				})
				size := 10
				if strings.Contains(when, "large") {
					size = part + 1
				}
				f := file(map[bool]string{true: "large", false: "small"}[size > part], content(1, size))
				_, err := newBucket(t, o).Put(t.Context(), f)
				if when == "HEAD " && err != nil && failure.As(err).Class != test.class {
					// An answer to HEAD has no body: a status without a word says less, and a
					// body is asked for once.
					if seen.Load() > 2 {
						t.Errorf("%d requests", seen.Load())
					}
					isFailure(t, err, failure.As(err).Kind, failure.As(err).Class)
					return
				}
				fe := isFailure(t, err, test.kind, test.class)
				if test.name == "slow down" && when != "HEAD " && fe.RetryAfter != 9*time.Second {
					t.Errorf("RetryAfter %s", fe.RetryAfter)
				}
			})
		}
	}
}

func TestAStalledStoreIsLeft(t *testing.T) {
	g := startGateway(t)
	for _, when := range []string{"HEAD ", "PUT /captures/large?", "GET /captures/large?"} {
		o := front(t, g, func(_ http.ResponseWriter, r *http.Request) bool {
			if !strings.HasPrefix(r.Method+" "+r.RequestURI, when) {
				return false
			}
			select { // a server with an unread body does not see that its client left
			case <-r.Context().Done():
			case <-t.Context().Done():
			}
			panic(http.ErrAbortHandler)
		})
		o.Timeout = 300 * time.Millisecond
		f := file("large", content(1, part+1))
		if when == "GET /captures/large?" {
			f.Upload = "0:parts:x"
		}
		start := time.Now()
		_, err := newBucket(t, o).Put(t.Context(), f)
		isFailure(t, err, failure.Retry, httpx.ClassNetwork)
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("%s took %s", when, took)
		}
	}
}

// The store does what was asked, and its answer is lost.
func TestLostAnswers(t *testing.T) {
	g := startGateway(t)
	for _, when := range []string{"PUT /captures/small", "POST /captures/large?uploadId"} {
		var lost atomic.Bool
		o := front(t, g, func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasPrefix(r.Method+" "+r.RequestURI, when) || lost.Swap(true) {
				return false
			}
			to, _ := url.Parse(g.url)
			httputil.NewSingleHostReverseProxy(to).ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		})
		b := newBucket(t, o)
		data := content(1, 10)
		if strings.Contains(when, "large") {
			data = content(1, part+1)
		}
		f := file(map[bool]string{true: "large", false: "small"}[len(data) > part], data)
		f.Begun = func(id string) error { f.Upload = id; return nil }
		_, err := b.Put(t.Context(), f)
		isFailure(t, err, failure.Retry, httpx.ClassNetwork)
		stored, err := b.Put(t.Context(), f)
		if err != nil || !stored.Existed || !bytes.Equal(object(t, b, f.Key), data) {
			t.Errorf("%+v %v", stored, err)
		}
	}
}

// A store does not know an upload while it makes the object of it. When that fails,
// the parts are there again.
func TestAStoreThatIsStillAtWork(t *testing.T) {
	g := startGateway(t)
	for _, succeeds := range []bool{true, false} {
		var busy atomic.Bool
		lists := 0
		o := front(t, g, func(w http.ResponseWriter, r *http.Request) bool {
			switch {
			case r.Method == "POST" && strings.Contains(r.RequestURI, "uploadId") && busy.CompareAndSwap(false, true):
				if succeeds {
					to, _ := url.Parse(g.url)
					httputil.NewSingleHostReverseProxy(to).ServeHTTP(httptest.NewRecorder(), r)
				}
				panic(http.ErrAbortHandler)
			case r.Method == "HEAD" && busy.Load() && lists < 2:
				w.WriteHeader(404)
				return true
			case r.Method == "GET" && busy.Load() && strings.Contains(r.RequestURI, "uploadId"):
				if lists++; succeeds || lists < 2 {
					s3Error(w, 404, "NoSuchUpload")
					return true
				}
			}
			return false
		})
		b := newBucket(t, o)
		data := content(1, part+1)
		f := file(fmt.Sprint("busy", succeeds), data)
		f.Begun = func(u string) error { f.Upload = u; return nil }
		_, err := b.Put(t.Context(), f)
		isFailure(t, err, failure.Retry, httpx.ClassNetwork)
		stored, err := b.Put(t.Context(), f)
		if err != nil || stored.Existed != succeeds || stored.Sent != 0 || !bytes.Equal(object(t, b, f.Key), data) {
			t.Errorf("%v: %+v %v", succeeds, stored, err)
		}
		if n := uploads(t, b); n != 0 {
			t.Errorf("%d uploads are left over", n)
		}
	}
}

// A store that knows no If-None-Match is served without.
func TestAStoreWithoutConditions(t *testing.T) {
	g := startGateway(t)
	n := 0
	o := front(t, g, func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("If-None-Match") == "" {
			return false
		}
		n++
		s3Error(w, 501, "NotImplemented")
		return true
	})
	b := newBucket(t, o)
	for _, size := range []int{100, part + 1, part + 2} {
		data := content(1, size)
		f := file(fmt.Sprint(size), data)
		if _, err := b.Put(t.Context(), f); err != nil || !bytes.Equal(object(t, b, f.Key), data) {
			t.Error(err)
		}
	}
	if n != 1 {
		t.Errorf("asked %d times", n)
	}
}

// Somebody stores another file under the same key while ours is on its way.
func TestSomebodyElseIsQuicker(t *testing.T) {
	g := startGateway(t)
	for _, size := range []int{100, part + 1} {
		o := front(t, g, func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == "HEAD" {
				return false
			}
			last := r.Method == "PUT" && size == 100 || r.Method == "POST" && strings.Contains(r.RequestURI, "uploadId")
			if last {
				other := newBucket(t, g.options())
				if _, err := other.Put(t.Context(), file(fmt.Sprint("k", size), []byte("first"))); err != nil {
					t.Error(err)
				}
			}
			return false
		})
		b := newBucket(t, o)
		_, err := b.Put(t.Context(), file(fmt.Sprint("k", size), content(1, size)))
		isFailure(t, err, failure.Permanent, ClassExists)
		if got := object(t, b, fmt.Sprint("k", size)); string(got) != "first" {
			t.Errorf("%d bytes", len(got))
		}
		if n := uploads(t, b); n != 0 {
			t.Errorf("%d uploads are left over", n)
		}
	}
}

// Lists of parts without end, of nonsense, and of parts that are not there.
func TestHostileLists(t *testing.T) {
	g := startGateway(t)
	page := func(body string) string {
		return `<?xml version="1.0"?><ListPartsResult>` + body + `</ListPartsResult>`
	}
	n := 0
	for name, list := range map[string]func() string{
		"no end": func() string {
			n++
			return page(fmt.Sprintf("<IsTruncated>true</IsTruncated><NextPartNumberMarker>%d</NextPartNumberMarker>", n))
		},
		"no progress": func() string {
			return page("<IsTruncated>true</IsTruncated><NextPartNumberMarker>1</NextPartNumberMarker>")
		},
		"no number": func() string { return page("<IsTruncated>true</IsTruncated>") },
		"a million": func() string { return page(strings.Repeat("<Part/>", 140_000)) },
		"deep":      func() string { return strings.Repeat("<a>", 300_000) },
		"wrong numbers": func() string {
			return page("<Part><PartNumber>-5</PartNumber><Size>99999999999999999999</Size></Part>")
		},
		"an entity": func() string {
			return `<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>` + page("<Part><ETag>&b;</ETag></Part>")
		},
		"foreign parts": func() string {
			return page("<Part><PartNumber>1</PartNumber><Size>5242880</Size><ETag>x</ETag><ChecksumSHA256>eA==</ChecksumSHA256></Part>")
		},
		"numbers galore": func() string {
			return page("<Part><PartNumber>1</PartNumber></Part><Part><PartNumber>1</PartNumber></Part>")
		},
	} {
		t.Run(name, func(t *testing.T) {
			lists := 0
			o := front(t, g, func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method != "GET" || !strings.Contains(r.RequestURI, "uploadId") {
					return false
				}
				lists++
				w.Header().Set("Content-Type", "application/xml")
				fmt.Fprint(w, list())
				return true
			})
			b := newBucket(t, o)
			f := file("hostile "+name, content(1, part+1))
			ctx, cancel := context.WithCancel(t.Context())
			f.Begun = func(id string) error { f.Upload = id; cancel(); return nil }
			if _, err := b.Put(ctx, f); err == nil {
				t.Fatal("it was not cancelled")
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := b.Put(t.Context(), f)
			runtime.ReadMemStats(&after)
			if err != nil {
				isFailure(t, err, failure.Retry, ClassServer)
			}
			if lists > maxParts+1 {
				t.Errorf("%d lists", lists)
			}
			if used := after.TotalAlloc - before.TotalAlloc; used > 3<<30 {
				t.Errorf("%d bytes allocated", used)
			}
		})
	}
}
