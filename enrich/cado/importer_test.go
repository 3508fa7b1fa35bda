package cado

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"capagent/enrich/cadotest"
	"capagent/internal/config"
	"capagent/internal/failure"
	"capagent/internal/httpx"
	"capagent/internal/secret"
	"capagent/internal/standin"
)

// world is a platform, its store, and an importer whose clock the test moves.
type world struct {
	*cadotest.Server
	store *cadotest.Store
	*Importer
	now   time.Time
	saves int
	saved Progress // last
	die   func(save int) (before, after bool)
}

var errKilled = errors.New("killed")

func newWorld(t *testing.T, o cadotest.Options, change ...func(*Config)) *world {
	t.Helper()
	w := &world{now: time.Now()}
	w.store = cadotest.StartStore(t, cadotest.StoreOptions{Dir: t.TempDir()})
	o.Store = w.store
	w.Server = cadotest.Start(t, o)
	c := newClient(t, w.Server, append([]func(*Config){func(c *Config) {
		c.Bucket, c.Endpoint, c.PathStyle = w.store.Bucket, w.store.URL, true
		c.AccessKeyID, c.SecretAccessKey = w.store.AccessKeyID, secret.New(w.store.SecretAccessKey)
		c.Poll = config.Duration(time.Minute)
	}}, change...)...)
	c.now = func() time.Time { return w.now }
	var err error
	if w.Importer, err = NewImporter(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

type content struct {
	*bytes.Reader
	open *int
}

func (c content) Close() error { *c.open--; return nil }

var opened int

func evidence(name string, data []byte) Evidence {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return Evidence{
		Name: name, Size: int64(len(data)), SHA256: sha256.Sum256(data), Project: "IR-7", Key: "capagent/sensor1/" + name,
		Open:  func() (Content, error) { opened++; return content{bytes.NewReader(data), &opened}, nil },
		Lines: []Line{{at, "capture of eth0 begins"}, {at.Add(time.Second), "finding: evil.example"}},
	}
}

func (w *world) save(p Progress) error {
	w.saves++
	before, after := false, false
	if w.die != nil {
		before, after = w.die(w.saves)
	}
	if before {
		return errKilled
	}
	text, err := json.Marshal(p) // what is kept is what can be read again
	if err != nil {
		return err
	}
	w.saved = Progress{}
	if err := json.Unmarshal(text, &w.saved); err != nil {
		return err
	}
	if after {
		return errKilled
	}
	return nil
}

// drive imports until there is an end, at the pace that is asked for, through kills.
func (w *world) drive(t *testing.T, e Evidence) (Progress, error) {
	t.Helper()
	for range 300 {
		p, err := w.Import(t.Context(), e, w.saved, w.save)
		switch {
		case errors.Is(err, errKilled):
			w.now = w.now.Add(time.Second) // it starts again
		case isClass(err, ClassRunning):
			f := failure.As(err)
			if f.RetryAfter != time.Minute {
				t.Fatalf("asks again after %s", f.RetryAfter)
			}
			w.now = w.now.Add(f.RetryAfter)
		default:
			if opened != 0 {
				t.Errorf("%d files are open", opened)
			}
			return p, err
		}
	}
	t.Fatal("it does not end")
	return Progress{}, nil
}

var methods = map[string]func(*Config){
	"v3 s3":        v3,
	"v2 s3":        v2,
	"v3 url":       func(c *Config) { c.Method = MethodURL },
	"v3 presigned": func(c *Config) { c.Method = MethodPresigned },
}

func TestImport(t *testing.T) {
	for name, method := range methods {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, cadotest.Options{}, method)
			p, err := w.drive(t, evidence("a.pcap", []byte("packets")))
			if err != nil || p.State != Stored || p.Text != "stored as evidence" || p.Project.Name != "IR-7" || p.Link == "" || p.Ended.IsZero() {
				t.Fatalf("%+v %v", p, err)
			}
			if p.Capture.Pipeline == "" || p.Capture.Processing == "" || p.Log.Pipeline == "" || p.Capture.Upload != "" {
				t.Errorf("%+v", p)
			}
			w.isOnce(t, 2)
			if name == "v3 s3" || name == "v2 s3" {
				want := "[2026-01-02 03:04:05 capture of eth0 begins 2026-01-02 03:04:06 finding: evil.example]"
				if got := fmt.Sprint(w.Events(1)); got != want {
					t.Errorf("timeline %s", got)
				}
			}
			n := w.Counted("requests")
			again, err := w.Import(t.Context(), evidence("a.pcap", []byte("packets")), p, w.save)
			if err != nil || again.State != Stored || w.Counted("requests") != n {
				t.Errorf("it is not over: %+v %v", again, err)
			}
			if strings.Contains(fmt.Sprintf("%+v", p)+w.saved.Text, "X-Amz") {
				t.Error("a signed URL is kept")
			}
		})
	}
}

// isOnce says that nothing was imported or stored twice.
func (w *world) isOnce(t *testing.T, imports int) {
	t.Helper()
	if n := w.Counted("duplicate"); n != 0 {
		t.Errorf("%d imports are duplicates: %+v", n, w.Pipelines())
	}
	if n := w.Counted("import"); n != imports {
		t.Errorf("%d imports: %+v", n, w.Pipelines())
	}
	if n := w.store.Counted("overwritten") + w.Counted("unknown") + w.Counted("badupload"); n != 0 {
		t.Errorf("%d bad requests", n)
	}
	if n := len(w.Projects()); n != 1 {
		t.Errorf("%d projects", n)
	}
}

// The agent is killed just before, or just after, each time that it saves; and
// again at the next one.
func TestKillsImportNothingTwice(t *testing.T) {
	for name, method := range methods {
		for _, unnamed := range []bool{false, true} {
			for _, beforeIt := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s unnamed=%v before=%v", name, unnamed, beforeIt), func(t *testing.T) {
					for kill := 1; ; kill++ {
						w := newWorld(t, cadotest.Options{Polls: 2}, method)
						if unnamed {
							w.SetFault(standin.Fault{Name: "unnamed"})
						}
						died := false
						w.die = func(save int) (bool, bool) {
							hit := save == kill || save == kill+2
							died = died || hit
							return hit && beforeIt, hit && !beforeIt
						}
						p, err := w.drive(t, evidence("a.pcap", []byte("packets")))
						if err != nil || p.State != Stored {
							t.Fatalf("killed at save %d: %+v %v", kill, p, err)
						}
						w.isOnce(t, 2)
						if !died {
							if kill < 6 {
								t.Errorf("%d saves", kill)
							}
							return
						}
					}
				})
			}
		}
	}
}

// The platform does what it is asked, and its answer does not come.
func TestLostAnswers(t *testing.T) {
	for name, method := range methods {
		t.Run(name, func(t *testing.T) {
			for _, match := range []string{"POST ", "PUT ", "GET "} {
				for skip := range 6 {
					w := newWorld(t, cadotest.Options{}, method)
					w.SetFault(standin.Fault{Name: "drop", Match: match, Skip: skip, Times: 1})
					e := evidence("a.pcap", []byte("packets"))
					var p Progress
					var err error
					for range 5 {
						if p, err = w.drive(t, e); err == nil {
							break
						}
						isFailureClass(t, err, httpx.ClassNetwork)
						w.now = w.now.Add(time.Second)
					}
					if err != nil || p.State != Stored {
						t.Fatalf("%s %d: %+v %v", match, skip, p, err)
					}
					w.isOnce(t, 2)
				}
			}
		})
	}
}

// A pipeline that never says what it imports may be the one that was asked for when
// the agent was killed: whether to import again is a person's to decide.
func TestAPipelineThatNeverSaysWhatItImports(t *testing.T) {
	w := newWorld(t, cadotest.Options{Polls: 1 << 30})
	w.SetFault(standin.Fault{Name: "unnamed", Times: 1, Match: "POST /api/v3/import"})
	w.die = func(save int) (bool, bool) { return w.Counted("import") == 1 && w.die != nil, false }
	e := evidence("a.pcap", []byte("packets"))
	if _, err := w.Import(t.Context(), e, w.saved, w.save); !errors.Is(err, errKilled) {
		t.Fatal(err)
	}
	w.die = nil
	for range 100 {
		_, err := w.Import(t.Context(), e, w.saved, w.save)
		if w.now = w.now.Add(time.Minute); w.saved.Capture.State == Failed {
			if !strings.Contains(w.saved.Capture.Text, "pipeline 1 does not say") {
				t.Error(w.saved.Capture.Text)
			}
			break
		}
		isFailure(t, err, failure.Retry, ClassRunning)
	}
	if names := w.Counted("duplicate"); names != 0 || w.saved.Capture.State != Failed {
		t.Errorf("%d duplicates, %+v", names, w.saved)
	}
	w.Finish()
	w.SetPolls(1)
	_, err := w.drive(t, e)
	isFailure(t, err, failure.Permanent, ClassFailed)
	w.saved = w.saved.Again() // meanwhile it proved to be the one
	if p, err := w.drive(t, e); err != nil || p.State != Stored {
		t.Errorf("%+v %v", p, err)
	}
	w.isOnce(t, 2)
}

// All that is known is lost: the ledger was rebuilt. What is there is found.
func TestALostLedger(t *testing.T) {
	for name, method := range methods {
		if name == "v3 presigned" {
			continue // nothing is stored that could be looked for
		}
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, cadotest.Options{}, method)
			first, err := w.drive(t, evidence("a.pcap", []byte("packets")))
			if err != nil {
				t.Fatal(err)
			}
			w.saved = Progress{}
			p, err := w.drive(t, evidence("a.pcap", []byte("packets")))
			if err != nil || p.State != Stored || p.Capture.Pipeline != first.Capture.Pipeline || p.Log.Pipeline != first.Log.Pipeline {
				t.Errorf("%+v %v", p, err)
			}
			w.isOnce(t, 2)
		})
	}
}

func TestOutcomes(t *testing.T) {
	for _, test := range []struct {
		fault standin.Fault
		state State
		text  string
		class string
	}{
		{standin.Fault{Name: "fails", Text: "cannot read\nthe \x1b[31mdisk", Times: 1}, Failed, "cannot read the [31mdisk", ClassFailed},
		{standin.Fault{Name: "cancelled", Times: 1}, Cancelled, "cancelled", ClassCancelled},
		{standin.Fault{Name: "badprocessing", Times: 1}, Failed, "stored as evidence, but processing, pipeline", ClassFailed},
		{standin.Fault{Name: "alone", Times: 1}, Stored, "stored as evidence; the platform began no processing", ""},
	} {
		for name, method := range methods {
			if name == "v3 presigned" {
				test.fault.Match = "pre-signed"
			} else {
				test.fault.Match = "a.pcap"
			}
			t.Run(test.fault.Name+" "+name, func(t *testing.T) {
				w := newWorld(t, cadotest.Options{}, method)
				w.SetFault(test.fault)
				p, err := w.drive(t, evidence("a.pcap", []byte("packets")))
				if p.State != test.state || !strings.Contains(p.Text, test.text) {
					t.Errorf("%s: %s", p.State, p.Text)
				}
				if test.class == "" {
					if err != nil {
						t.Error(err)
					}
					return
				}
				f := isFailure(t, err, failure.Permanent, test.class)
				if !strings.Contains(f.Error(), test.text) {
					t.Error(f)
				}
				w.isOnce(t, 2)

				// It says the same when it is asked again, and imports once more when a
				// person wants that.
				if _, again := w.Import(t.Context(), evidence("a.pcap", []byte("packets")), w.saved, w.save); again == nil || again.Error() != err.Error() {
					t.Error(again)
				}
				w.saved = p.Again()
				p, err = w.drive(t, evidence("a.pcap", []byte("packets")))
				if err != nil || p.State != Stored || w.Counted("import") != 3 {
					t.Errorf("%+v %v, %d imports", p, err, w.Counted("import"))
				}
			})
		}
	}
}

func TestAnUploadThatBeginsNoPipeline(t *testing.T) {
	w := newWorld(t, cadotest.Options{}, methods["v3 presigned"])
	w.SetFault(standin.Fault{Name: "nopipeline"})
	p, err := w.drive(t, evidence("a.pcap", []byte("packets")))
	if err != nil || p.State != Stored || !strings.Contains(p.Text, "began no pipeline") || w.Counted("upload") != 2 {
		t.Errorf("%+v %v", p, err)
	}
}

// The platform was set back, and does not know the pipeline.
func TestAPipelineThatIsGone(t *testing.T) {
	for name, answer := range map[string]standin.Fault{"404": {Name: "status", Status: 404, Text: "gone"}, "a page": {Name: "html"}} {
		w := newWorld(t, cadotest.Options{})
		e := evidence("a.pcap", []byte("packets"))
		if _, err := w.Import(t.Context(), e, Progress{}, w.save); !isClass(err, ClassRunning) {
			t.Fatal(err)
		}
		answer.Match = "/pipelines/"
		w.SetFault(answer)
		_, err := w.Import(t.Context(), e, w.saved, w.save)
		if name == "a page" {
			isFailure(t, err, failure.Retry, ClassBadReply)
			continue
		}
		if f := isFailure(t, err, failure.Permanent, ClassFailed); !strings.Contains(f.Error(), "does not know pipeline 1") {
			t.Error(f)
		}
		w.ClearFaults()
		w.saved = w.saved.Again()
		if p, err := w.drive(t, e); err != nil || p.State != Stored {
			t.Errorf("%+v %v", p, err)
		}
	}
}

func TestAnEndlessPipelineIsAskedForPolitely(t *testing.T) {
	w := newWorld(t, cadotest.Options{})
	w.SetFault(standin.Fault{Name: "endless"})
	e := evidence("a.pcap", []byte("packets"))
	if _, err := w.Import(t.Context(), e, Progress{}, w.save); !isClass(err, ClassRunning) {
		t.Fatal(err)
	}
	n := w.Counted("requests")
	for range 10 {
		_, err := w.Import(t.Context(), e, w.saved, w.save)
		if f := isFailure(t, err, failure.Retry, ClassRunning); f.RetryAfter != time.Minute || !strings.Contains(f.Error(), "1 of 3 done") {
			t.Error(f)
		}
	}
	if got := w.Counted("requests") - n; got != 20 {
		t.Errorf("%d requests for 10 polls of two pipelines", got)
	}
}

func TestWhatTheSidesRefuse(t *testing.T) {
	for name, test := range map[string]struct {
		set   func(w *world)
		kind  failure.Kind
		class string
	}{
		"a full store":      {func(w *world) { w.store.SetFault(standin.Fault{Name: "full"}) }, failure.Pause, "store_full"},
		"a slow store":      {func(w *world) { w.store.SetFault(standin.Fault{Name: "slowdown"}) }, failure.Retry, "busy"},
		"no permission":     {func(w *world) { w.SetFault(standin.Fault{Name: "forbidden", Match: "/import"}) }, failure.Pause, ClassNoPermission},
		"a wrong key":       {func(w *world) { w.SetFault(standin.Fault{Name: "unauthorized"}) }, failure.Pause, ClassBadCredentials},
		"refused":           {func(w *world) { w.SetFault(standin.Fault{Name: "status", Status: 400, Match: "/import"}) }, failure.Permanent, ClassBadRequest},
		"platform is down":  {func(w *world) { w.SetFault(standin.Fault{Name: "status", Status: 503, RetryAfter: "5"}) }, failure.Retry, ClassBusy},
		"key is occupied":   {func(w *world) { w.occupy(t) }, failure.Permanent, "exists"},
		"no disk to save":   {func(w *world) { w.die = func(int) (bool, bool) { return true, false } }, failure.Retry, "unknown"},
		"a page, no answer": {func(w *world) { w.SetFault(standin.Fault{Name: "html"}) }, failure.Retry, ClassBadReply},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, cadotest.Options{})
			test.set(w)
			_, err := w.Import(t.Context(), evidence("a.pcap", []byte("packets")), Progress{}, w.save)
			t.Log(isFailure(t, err, test.kind, test.class))
			w.ClearFaults()
			w.store.ClearFaults()
			if w.die = nil; test.class == "exists" {
				return
			}
			p, err := w.drive(t, evidence("a.pcap", []byte("packets")))
			if err != nil || p.State != Stored {
				t.Errorf("it does not recover: %+v %v", p, err)
			}
			w.isOnce(t, 2)
		})
	}
}

// occupy puts another file under the key.
func (w *world) occupy(t *testing.T) {
	other := evidence("a.pcap", []byte("other packets"))
	other.Lines = nil
	if _, err := w.Import(t.Context(), other, Progress{}, func(Progress) error { return nil }); !isClass(err, ClassRunning) {
		t.Fatal(err)
	}
}

func TestEvidenceThatIsNone(t *testing.T) {
	w := newWorld(t, cadotest.Options{})
	for name, change := range map[string]func(*Evidence){
		"no file":          func(e *Evidence) { e.Open = nil },
		"no project":       func(e *Evidence) { e.Project = "" },
		"no key":           func(e *Evidence) { e.Key = "" },
		"a key that is up": func(e *Evidence) { e.Key = "a/../b" },
		"a long key":       func(e *Evidence) { e.Key = strings.Repeat("x", 1020) },
	} {
		e := evidence("a.pcap", nil)
		change(&e)
		_, err := w.Import(t.Context(), e, Progress{}, w.save)
		isFailure(t, err, failure.Permanent, ClassBadRequest)
		_, err = w.Plan(t.Context(), e)
		if isFailure(t, err, failure.Permanent, ClassBadRequest); w.Counted("requests") != 0 {
			t.Errorf("%s: it was asked", name)
		}
	}
	e := evidence("a.pcap", nil)
	e.Open = func() (Content, error) { return nil, errors.New("gone") }
	_, err := w.Import(t.Context(), e, Progress{}, w.save)
	isFailure(t, err, failure.Retry, ClassUnreadable)
	e = evidence("a.pcap", []byte("x"))
	e.SHA256[0]++
	_, err = w.Import(t.Context(), e, Progress{}, w.save)
	isFailure(t, err, failure.Permanent, ClassChanged)
}

func TestPlanOnlyReads(t *testing.T) {
	for name, method := range methods {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, cadotest.Options{}, method)
			e := evidence("a.pcap", []byte("packets"))
			lines, err := w.Plan(t.Context(), e)
			if err != nil || len(lines) != 3 || !strings.Contains(lines[0], "project IR-7 would be created") || !strings.Contains(lines[1], "7 B, would be uploaded and imported") {
				t.Errorf("%q %v", lines, err)
			}
			if len(w.store.Objects()) != 0 || len(w.Projects()) != 0 || w.Counted("import") != 0 {
				t.Error("something was done")
			}
			if _, err := w.drive(t, e); err != nil {
				t.Fatal(err)
			}
			lines, err = w.Plan(t.Context(), e)
			if err != nil || !strings.Contains(lines[0], "is there") || !strings.Contains(lines[1], "is imported (pipeline 1)") || !strings.Contains(lines[2], "is imported (pipeline ") {
				t.Errorf("%q %v", lines, err)
			}
			for _, r := range append(w.Requests(), w.store.Requests()...) {
				if r.At.After(time.Now()) {
					t.Error(r.Target)
				}
			}
		})
	}
	w := newWorld(t, cadotest.Options{}, func(c *Config) { c.DryRun = true })
	_, err := w.Import(t.Context(), evidence("a.pcap", nil), Progress{}, w.save)
	if isFailure(t, err, failure.Permanent, ClassBadRequest); w.Counted("requests") != 0 {
		t.Error("it was asked")
	}
}

// Several agents import different captures into one project at once.
func TestAgentsImportAtOnce(t *testing.T) {
	s := cadotest.Start(t, cadotest.Options{SameNames: true, Polls: 1})
	store := cadotest.StartStore(t, cadotest.StoreOptions{Dir: t.TempDir()})
	var wg sync.WaitGroup
	for n := range 4 {
		c := newClient(t, s, func(c *Config) {
			c.Bucket, c.Endpoint, c.PathStyle = store.Bucket, store.URL, true
			c.AccessKeyID, c.SecretAccessKey = store.AccessKeyID, secret.New(store.SecretAccessKey)
		})
		i, err := NewImporter(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(i.Close)
		wg.Go(func() {
			data := fmt.Appendf(nil, "packets %d", n)
			e := Evidence{
				Name: "x", Size: int64(len(data)), SHA256: sha256.Sum256(data), Project: "IR-8", Key: fmt.Sprintf("a/%d.pcap", n),
				Open: func() (Content, error) {
					return struct {
						*bytes.Reader
						nopCloser
					}{bytes.NewReader(data), nopCloser{}}, nil
				},
			}
			if _, err := i.Import(t.Context(), e, Progress{}, func(Progress) error { return nil }); err != nil && !isClass(err, ClassRunning) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	used := map[int]bool{}
	for _, p := range s.Pipelines() {
		used[p.Project] = true
	}
	if len(used) != 1 || s.Counted("duplicate") != 0 {
		t.Errorf("%d projects are in use: %+v", len(used), s.Pipelines())
	}
}

type nopCloser struct{}

func (nopCloser) Close() error { return nil }

func TestLog(t *testing.T) {
	at := time.Date(2026, 1, 2, 4, 4, 5, 999, time.FixedZone("", 3600))
	got := string(Log([]Line{
		{time.Time{}, "no time"}, {at, " a\nb\r\x1b[31m\u2028\u202ec\x00 "}, {time.Time{}, "follows"}, {at, "\n"}, {at.AddDate(99999, 0, 0), "late"}, {at, "\xff" + strings.Repeat("x", 1000)},
	}))
	want := "1970-01-01 00:00:00 no time\n2026-01-02 03:04:05 a b [31m c\n2026-01-02 03:04:05 follows\n1970-01-01 00:00:00 late\n2026-01-02 03:04:05 " + strings.Repeat("x", maxLine-3) + "...\n"
	if got != want {
		t.Errorf("%q", got)
	}
	many := make([]Line, maxLines+10)
	for i := range many {
		many[i] = Line{at, "x"}
	}
	all := strings.Split(strings.TrimSpace(string(Log(many))), "\n")
	if len(all) != maxLines || !strings.HasSuffix(all[maxLines-1], "11 more events are not listed here") {
		t.Errorf("%d lines, %q", len(all), all[len(all)-1])
	}
	if Log(nil) != nil {
		t.Error("a log of nothing")
	}
}

func FuzzLog(f *testing.F) {
	f.Add(int64(0), "a\nb")
	f.Add(int64(1<<62), "\u2028\x1b\xff")
	f.Fuzz(func(t *testing.T, unix int64, text string) {
		out := string(Log([]Line{{time.Unix(unix, 0), text}, {time.Unix(1e9, 0), "second"}}))
		for l := range strings.Lines(out) {
			if _, err := time.Parse(time.DateTime, l[:min(19, len(l))]); err != nil || !strings.HasSuffix(l, "\n") || len(l) > 20+maxLine+1 {
				t.Fatalf("%q", l)
			}
		}
		if n := strings.Count(out, "\n"); n > 2 || !strings.HasSuffix(out, "2001-09-09 01:46:40 second\n") {
			t.Fatalf("%q", out)
		}
	})
}

// Names that are alike are no reason to think that it is imported.
func TestPipelinesAreFoundByTheirExactName(t *testing.T) {
	w := newWorld(t, cadotest.Options{})
	w.saved = Progress{}
	if _, err := w.drive(t, evidence("xa.pcap", []byte("other"))); err != nil {
		t.Fatal(err)
	}
	w.saved = Progress{}
	asked := false
	w.die = func(int) (bool, bool) { // when it is saved that the import is about to be asked for
		again := w.saved.Log.Stored && !asked
		asked = asked || again
		return false, again
	}
	e := evidence("a.pcap", []byte("packets"))
	p, err := w.drive(t, e)
	if err != nil || p.State != Stored {
		t.Fatal(err)
	}
	names := map[string]int{}
	for _, pl := range w.Pipelines() {
		if pl.Type == typeAcquisition {
			names[path.Base(pl.Source)]++
		}
	}
	if !asked || names["a.pcap"] != 1 || names["xa.pcap"] != 1 || len(names) != 4 {
		t.Error(names)
	}
}
