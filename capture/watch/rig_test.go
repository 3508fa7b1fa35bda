package watch_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"capagent/capture/watch"
	"capagent/internal/config"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "16"); err != nil { // most of them wait most of the time
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// rig is a folder under watch and what was handed over from it.
type rig struct {
	t   *testing.T
	dir string
	w   *watch.Watcher
	log bytes.Buffer // read it after stop

	mu      sync.Mutex
	taken   []watch.File
	content map[string][]string // by name: what Take read
	refused []string
	change  chan struct{}
	stop    func()
}

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

func options(dir string) watch.Options {
	var c watch.Config
	c.SetDefaults()
	c.Path = dir
	c.Settle = config.Duration(100 * time.Millisecond)
	c.Rescan = config.Duration(time.Hour) // events must do it, unless a test asks for scans
	return watch.Options{Config: c}
}

// start watches dir and waits for the first scan to be over.
func start(t *testing.T, dir string, change ...func(*watch.Options)) *rig {
	t.Helper()
	r := &rig{t: t, dir: dir, content: map[string][]string{}, change: make(chan struct{}, 1)}
	o := options(dir)
	o.Log = zerolog.New(&r.log)
	o.Take = r.take
	o.Refuse = r.refuse
	for _, f := range change {
		f(&o)
	}
	r.w = watch.New(o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- r.w.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(r.stop)
	r.until("the first scan", func() bool { return r.w.Status().Scans > 0 })
	return r
}

func (r *rig) take(_ context.Context, f watch.File) {
	text, err := os.ReadFile(f.Path)
	if err != nil {
		text = []byte(err.Error())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.taken = append(r.taken, f)
	r.content[f.Name] = append(r.content[f.Name], string(text))
	r.changed()
}

func (r *rig) refuse(path, reason string) {
	name, _ := filepath.Rel(r.dir, path)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refused = append(r.refused, name+": "+reason)
	r.changed()
}

func (r *rig) changed() {
	select {
	case r.change <- struct{}{}:
	default:
	}
}

// until waits for ok, which is asked whenever something was handed over or
// refused, and now and then.
func (r *rig) until(what string, ok func() bool) {
	r.t.Helper()
	late := time.After(patience)
	for !ok() {
		select {
		case <-r.change:
		case <-time.After(2 * time.Millisecond):
		case <-late:
			r.mu.Lock()
			defer r.mu.Unlock()
			r.t.Fatalf("%s: not so after %s; taken %d: %.300q; refused %.300q; %+v", what, patience, len(r.taken), r.content, r.refused, r.w.Status())
		}
	}
}

// contents returns what was read of name, once for each time it was handed over.
func (r *rig) contents(name string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.content[name])
}

// expect waits until name was handed over with these contents, in this order.
func (r *rig) expect(name string, contents ...string) {
	r.t.Helper()
	r.until(fmt.Sprintf("%q with %.60q", name, contents), func() bool { return len(r.contents(name)) >= len(contents) })
	if got := r.contents(name); !slices.Equal(got, contents) {
		r.t.Fatalf("%q was handed over with %.60q, want %.60q", name, got, contents)
	}
}

// last waits until name was handed over with this content.
func (r *rig) last(name, content string) {
	r.t.Helper()
	r.until(fmt.Sprintf("%q with %.60q", name, content), func() bool {
		all := r.contents(name)
		return len(all) > 0 && all[len(all)-1] == content
	})
}

// tellsWriters reports whether this system knows who has a file open.
func (r *rig) tellsWriters() bool { return runtime.GOOS == "linux" || runtime.GOOS == "windows" }

// names returns what was handed over, sorted, each as often as it was.
func (r *rig) names() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var names []string
	for _, f := range r.taken {
		names = append(names, f.Name)
	}
	slices.Sort(names)
	return names
}

func (r *rig) refusals() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := slices.Clone(r.refused)
	slices.Sort(out)
	return out
}

// rescan scans everything and waits until all that it found is dealt with.
func (r *rig) rescan() {
	r.t.Helper()
	before := r.w.Status().Scans
	r.w.Rescan()
	r.until("a scan", func() bool {
		s := r.w.Status()
		return s.Scans > before && s.Pending == 0
	})
}

// rescan0 scans everything without waiting for what it found.
func (r *rig) rescan0() {
	r.t.Helper()
	before := r.w.Status().Scans
	r.w.Rescan()
	r.until("a scan", func() bool { return r.w.Status().Scans > before })
}

func (r *rig) path(name string) string { return filepath.Join(r.dir, name) }

func (r *rig) write(name, text string) {
	r.t.Helper()
	write(r.t, r.path(name), text)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(text), 0o600))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// descriptors counts those of this process that are open.
func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(entries)
}
