// Command oracle compares what enrich finds in captures with what tshark finds,
// value by value and with the frame of each first sighting. It is given files or
// folders of captures, asks tshark once per file and remembers the answers, and
// prints what is different: that is the source of docs/indicators.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "oracle:", err)
		stop()
		os.Exit(1) //nolint:gocritic // stop was called
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	f := flag.NewFlagSet("oracle", flag.ContinueOnError)
	cache := f.String("cache", filepath.Join(os.TempDir(), "capagent-oracle"), "folder of tshark's answers")
	jobs := f.Int("j", runtime.NumCPU(), "how many tshark at once")
	list := f.Int("list", 5, "differences that are listed of each field; -1: all")
	only := f.String("field", "", "only this field")
	known := f.Bool("known", false, "only captures of which tshark's answer is remembered")
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() == 0 {
		return errors.New("which captures?")
	}
	files, err := captures(f.Args())
	if err != nil {
		return err
	}
	if err := os.MkdirAll(*cache, 0o755); err != nil {
		return err
	}
	t := newTable(*list, *only)
	work := make(chan string)
	var wg sync.WaitGroup
	for range *jobs {
		wg.Go(func() {
			for path := range work {
				if r, ok := compare(ctx, *cache, path, *known); ok {
					t.add(r)
				}
			}
		})
	}
	for _, path := range files {
		if ctx.Err() != nil {
			break
		}
		work <- path
	}
	close(work)
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return err
	}
	return t.print(out)
}

// captures lists the regular files below the given paths.
func captures(paths []string) ([]string, error) {
	var files []string
	for _, path := range paths {
		err := filepath.WalkDir(path, func(path string, e fs.DirEntry, err error) error {
			if err == nil && e.Type().IsRegular() && !strings.HasSuffix(path, ".md") {
				files = append(files, path)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	slices.Sort(files)
	return files, nil
}
