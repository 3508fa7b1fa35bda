package pcapfile_test

import (
	"os"
	"testing"

	"capagent/internal/faulttest"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(victimVar); dir != "" {
		victim(dir)
	}
	os.Exit(faulttest.Main(m))
}
