package logs_test

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"capagent/internal/logs"
)

const inJournalTest = "CAPAGENT_TEST_JOURNAL"

// TestJournal runs itself again where nobody else sees the socket that stands in
// for the journal's.
func TestJournal(t *testing.T) {
	if os.Getenv(inJournalTest) != "" {
		journalTest(t)
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root for a mount namespace")
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestJournal$", "-test.v")
	cmd.Env = append(os.Environ(), inJournalTest+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func journalTest(t *testing.T) {
	for _, err := range []error{
		syscall.Mount("", "/", "", syscall.MS_PRIVATE|syscall.MS_REC, ""),
		syscall.Mount("tmpfs", "/run", "tmpfs", 0, ""),
		os.MkdirAll("/run/systemd/journal", 0o755),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: "/run/systemd/journal/socket", Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	log, limiter := logs.New(logs.Options{
		Out: &out, Format: logs.Auto, File: f, Env: env(streamOf(t, f)),
		Mask: func(line []byte) []byte { return bytes.ReplaceAll(line, []byte("s3cret"), []byte("***")) },
	})
	for range 3 {
		log.Warn().Str("class", "network").Int("capture", 7).Msg("GET /api/v1/s3cret/upload:\nrefused")
	}
	if err := limiter.Close(); err != nil {
		t.Fatal(err)
	}
	var got []string
	buf := make([]byte, 64<<10)
	_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	for range 2 {
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(buf[:n]))
	}
	for _, want := range []string{"PRIORITY=4\n", "CLASS=network\n", "CAPTURE=7\n", "GET /api/v1/***/upload:\nrefused\n"} {
		if !strings.Contains(got[0], want) {
			t.Errorf("%q is not in %q", want, got[0])
		}
	}
	if strings.Contains(got[0]+got[1], "s3cret") || strings.Contains(got[0], "REPEATED") || !strings.Contains(got[1], "REPEATED=2\n") {
		t.Errorf("got %q", got)
	}
	if out.Len() != 0 {
		t.Errorf("also said on stderr: %q", out.String())
	}

	// The journal is restarted: lines go where they would go without it.
	_ = conn.Close()
	_ = os.Remove("/run/systemd/journal/socket")
	log.Info().Msg("not lost")
	if !strings.Contains(out.String(), "not lost") {
		t.Errorf("without a journal: %q", out.String())
	}
}
