package main

import (
	"os"
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
		"capagent": func() { os.Exit(mainCode()) },
	})
}
