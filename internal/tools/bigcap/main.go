// Command bigcap writes captures for load: one of any size, or a tree of many
// small ones with names that break careless programs.
//
//	go run ./internal/tools/bigcap -size 4GiB -packet 1500 FILE
//	go run ./internal/tools/bigcap -files 20000 -dir DIR
//
// The same flags give the same bytes and names everywhere, except that a name
// which the file system refuses is replaced by a plain one. Payloads are noise
// and do not compress. FILE "-" is standard output.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/dustin/go-humanize"
)

func main() {
	if err := run(os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "bigcap:", err)
		os.Exit(1)
	}
}

func run(args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("bigcap", flag.ContinueOnError)
	flags.SetOutput(stderr)
	size := flags.String("size", "1GiB", "largest size of FILE; it ends with a whole packet")
	frame := flags.Int("packet", 1500, "bytes of each frame in FILE")
	files := flags.Int("files", 0, "write so many small captures below -dir instead of FILE")
	dir := flags.String("dir", "", "where -files go")
	seed := flags.Uint64("seed", 1, "changes every payload")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *files > 0 {
		if *dir == "" || flags.NArg() != 0 {
			return errors.New("-files needs -dir and no other argument")
		}
		refused, err := writeTree(*dir, *files, *seed)
		if refused > 0 {
			fmt.Fprintf(stderr, "bigcap: the file system refused %d names; plain ones took their place\n", refused)
		}
		return err
	}
	if flags.NArg() != 1 {
		return errors.New("one argument: the file to write, or - for standard output")
	}
	limit, err := humanize.ParseBytes(*size)
	if err != nil {
		return fmt.Errorf("-size: %w", err)
	}
	if *frame < minFrame || *frame > maxFrame {
		return fmt.Errorf("-packet %d: want %d to %d", *frame, minFrame, maxFrame)
	}
	if name := flags.Arg(0); name != "-" {
		return writeFile(name, limit, *frame, *seed)
	}
	return writeCapture(stdout, limit, *frame, *seed)
}

func writeFile(name string, limit uint64, frame int, seed uint64) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(writeCapture(f, limit, frame, seed), f.Close())
}
