package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// asProgram makes the test binary act as capagent itself, for tests that need a
// real process to kill.
const asProgram = "CAPAGENT_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(mainCode())
	}
	testscript.Main(m, map[string]func(){
		"capagent": func() { os.Exit(recorded()) },
	})
}

// record names a file that the scripts' capagent writes everything into that it
// says, and its arguments, where findCanary looks for the token.
const record = "CAPAGENT_TEST_RECORD"

// recorded is mainCode that leaves a record.
func recorded() int {
	f, err := os.OpenFile(os.Getenv(record), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	defer f.Close()
	fmt.Fprintf(f, "%q\n", os.Args)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return run(ctx, os.Args[1:], os.Stdin, io.MultiWriter(os.Stdout, f), io.MultiWriter(os.Stderr, f))
}
