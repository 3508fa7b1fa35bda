// Command gencaptures writes the demonstration captures that ship in
// examples/captures: a small office, an incident in it, and a few files that an
// import must report rather than swallow.
//
//	go run ./internal/tools/gencaptures DIR
//	go run ./internal/tools/gencaptures -record DIR
//	go run ./internal/tools/gencaptures -recent FILE
//
// The first form writes the same bytes on every run and every machine: times,
// sequence numbers and file contents are fixed, and the TLS sessions are played
// back from recordings. The second form makes new recordings into DIR; it is
// needed only when the sessions themselves should change. The third form writes the
// beacon of the branch office as if it had just happened: who has names for devices
// knows nothing of old captures. Only documentation
// addresses and names occur (RFC 5737, RFC 3849, RFC 2606, RFC 9542), apart from
// those that the protocols themselves prescribe.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

func main() {
	if err := run(os.Args[1:], os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "gencaptures:", err)
		os.Exit(1)
	}
}

func run(args []string, stderr io.Writer) error {
	flags := flag.NewFlagSet("gencaptures", flag.ContinueOnError)
	flags.SetOutput(stderr)
	record := flags.Bool("record", false, "record new TLS sessions into DIR instead of writing captures")
	recent := flags.String("recent", "", "write one capture that ends now into `FILE`")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *recent != "" {
		return os.WriteFile(*recent, endingAt(beaconTraffic().pcap(false), time.Now()), 0o644)
	}
	if flags.NArg() != 1 {
		return fmt.Errorf("one argument: the directory to write to")
	}
	dir := flags.Arg(0)
	if *record {
		return recordSessions(dir)
	}
	files, err := captures()
	if err != nil {
		return err
	}
	for _, f := range files {
		path := filepath.Join(dir, filepath.FromSlash(f.name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, f.data, 0o644); err != nil {
			return err
		}
	}
	return nil
}
