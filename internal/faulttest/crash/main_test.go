//go:build linux

// Package crash holds the fault campaigns. Each test is the short form of one;
// the flags make it long. docs/faults.md has the commands.
package crash

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"capagent/internal/faulttest"
)

var (
	seedFlag    = flag.Uint64("crash.seed", 0, "seed of all random choices; 0 takes a new one and prints it")
	programFlag = flag.String("crash.program", "", "test this capagent instead of building one")
	workersFlag = flag.Int("crash.workers", 2, "so many cases at a time")
)

// scratch is where the program is built. It is gone when the tests end.
var scratch string

func TestMain(m *testing.M) {
	faulttest.LaunchMain()
	var err error
	if scratch, err = os.MkdirTemp("", "crash-*"); err != nil {
		panic(err)
	}
	code := faulttest.Main(m)
	_ = os.RemoveAll(scratch)
	os.Exit(code)
}

// program builds capagent once.
func program(t testing.TB) string {
	t.Helper()
	if *programFlag != "" {
		return *programFlag
	}
	path, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

var built = sync.OnceValues(func() (string, error) {
	return faulttest.Build(context.Background(), scratch)
})

// mutant builds a capagent that is wrong in one place.
func mutant(t *testing.T, patches ...faulttest.Patch) string {
	t.Helper()
	path, err := faulttest.Build(t.Context(), t.TempDir(), patches...)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// seed returns the run's seed and says it.
func seed(t testing.TB) uint64 {
	t.Helper()
	s := *seedFlag
	if s == 0 {
		s = uint64(time.Now().UnixNano()) % 1_000_000
	}
	t.Logf("-crash.seed %d", s)
	return s
}

// memory makes a folder for a case and returns how to remove it; in memory where
// there is some, because what is tested there does not depend on the disk.
func memory() (dir string, remove func(), err error) {
	base := "/dev/shm"
	if _, err := os.Stat(base); err != nil {
		base = ""
	}
	if dir, err = os.MkdirTemp(base, "crash-*"); err != nil {
		return "", nil, err
	}
	remove = func() { _ = os.RemoveAll(dir) }
	dir, err = filepath.EvalSymlinks(dir)
	return dir, remove, err
}

// each calls f for 0 to n-1, some at a time, and returns the errors.
func each(n int, f func(i int) error) []error {
	var mu sync.Mutex
	var errs []error
	var next atomic.Int64
	var group sync.WaitGroup
	for range *workersFlag {
		group.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if err := f(i); err != nil {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
				}
			}
		})
	}
	group.Wait()
	return errs
}

// report fails the test with each error.
func report(t *testing.T, errs []error) {
	t.Helper()
	for _, err := range errs {
		t.Error(err)
	}
}
