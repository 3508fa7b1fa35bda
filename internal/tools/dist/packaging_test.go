package main

import (
	"encoding/xml"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"capagent/service/daemon"
)

const (
	packaging = "../../../packaging/"
	unit      = packaging + "systemd/capagent.service"
)

// setting returns the values of a key of the unit.
func setting(t *testing.T, key string) []string {
	t.Helper()
	text, err := os.ReadFile(unit)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, m := range regexp.MustCompile(`(?m)^`+key+`=(.*)$`).FindAllStringSubmatch(string(text), -1) {
		all = append(all, m[1])
	}
	return all
}

func TestTheUnitWaitsForAStop(t *testing.T) {
	stop, err := time.ParseDuration(setting(t, "TimeoutStopSec")[0])
	if err != nil || stop < 2*daemon.DefaultGrace {
		t.Errorf("TimeoutStopSec is %s, %v: the agent alone takes %s", stop, err, daemon.DefaultGrace)
	}
}

func TestACrashIsNoReasonToStayDown(t *testing.T) {
	prevented := strings.Fields(strings.Join(setting(t, "RestartPreventExitStatus"), " "))
	if strings.Join(prevented, " ") != "77 78" {
		t.Errorf("%v: Go programs exit with 2 when they crash", prevented)
	}
}

func TestTheUnitIsHardened(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("needs systemd-analyze")
	}
	path, err := filepath.Abs(unit)
	if err != nil {
		t.Fatal(err)
	}
	// The threshold is in tenths.
	out, err := exec.CommandContext(t.Context(), "systemd-analyze", "security", "--offline=true", "--threshold=16", path).CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestScriptsAreShell(t *testing.T) {
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("needs sh")
	}
	for _, folder := range []string{"scripts", "openrc", "launchd/scripts"} {
		err := filepath.WalkDir(packaging+folder, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			if out, err := exec.CommandContext(t.Context(), "sh", "-n", path).CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s", path, err, out)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

func TestThePlistIsXML(t *testing.T) {
	f, err := os.Open(packaging + "launchd/org.capagent.agent.plist")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for dec := xml.NewDecoder(f); ; {
		if _, err := dec.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}
