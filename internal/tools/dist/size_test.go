package main

import (
	"strings"
	"testing"
)

func TestAProgramThatIsTooLargeIsNotGivenOut(t *testing.T) {
	if err := checkSize(35_000_000); err != nil {
		t.Error(err)
	}
	if err := checkSize(35_000_001); err == nil || !strings.Contains(err.Error(), "35000001 bytes") {
		t.Errorf("%v", err)
	}
}
