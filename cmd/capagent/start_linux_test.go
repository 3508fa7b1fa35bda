package main

import (
	"encoding/binary"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// systemctl status says what the agent does from the beginning, not after its first
// round of half a minute.
func TestTheServiceManagerIsToldAtOnceWhatTheAgentDoes(t *testing.T) {
	s := startSandbox(t)
	config, _ := agentConfig(t, s, "", "")
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	startDaemon(t, config)
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	for _, want := range []string{"READY=1", "STATUS=0 uploading, 0 queued"} {
		n, err := conn.Read(buf)
		if err != nil || !strings.HasPrefix(string(buf[:n]), want) {
			t.Errorf("%q, %v; want %s", buf[:n], err, want)
		}
	}
}

// A ledger of a newer version gets no older by trying again: the exit code keeps the
// service manager from doing so.
func TestALedgerOfANewerVersionEndsTheAgentForGood(t *testing.T) {
	s := startSandbox(t)
	config, _ := agentConfig(t, s, "", "")
	if a := startDaemon(t, config); a.stop() != 0 {
		t.Fatal(a.log())
	}
	const userVersion = 60 // where a database's header has it (SQLite, "Database File Format")
	f, err := os.OpenFile(filepath.Join(s.Dir, "state", "ledger.db"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(binary.BigEndian.AppendUint32(nil, 9999), userVersion); err != nil {
		t.Fatal(err)
	}
	a := launchDaemon(t, config)
	select {
	case <-a.ended:
	case <-time.After(patience):
		t.Fatalf("it goes on:\n%s", a.log())
	}
	if code := a.cmd.ProcessState.ExitCode(); code != exitConfig || !strings.Contains(a.log(), "newer version of capagent") {
		t.Errorf("exit %d:\n%s", code, a.log())
	}
}
