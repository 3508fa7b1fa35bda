package local

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"capagent/internal/paths"
)

// maxSocket bounds the path of a socket. The system's limit is 103 bytes or more,
// of which Listen needs up to 8 for the name under which the socket is made.
const maxSocket = 95

const socketName = "control.sock"

// Where is the place at which one agent can be reached. Exactly one of Socket
// and TokenFile is set.
type Where struct {
	Socket    string // path of the Unix socket
	Private   bool   // the socket's directory must be this user's alone, since anybody could have made it
	TokenFile string // loopback: where address and token are written, for the owner only
}

// String is the place as it is said to people.
func (w Where) String() string {
	if w.Socket != "" {
		return w.Socket
	}
	return w.TokenFile
}

// Place says where the agent of stateDir listens. Server and client both ask
// it, so it looks at nothing but its arguments, the user and the directory for
// temporary files.
//
// The machine's agent is found by every user: stateDir is compared with the
// machine's own place and not only with that of the user who asks.
func Place(cfg Config, stateDir string, own paths.Paths) Where {
	if runtime.GOOS == "windows" {
		return Where{TokenFile: filepath.Join(stateDir, "control.token")}
	}
	w := Where{Socket: cfg.Socket}
	if w.Socket != "" {
		return w
	}
	dir := stateDir
	for _, p := range []paths.Paths{own, machine()} {
		if p.State != "" && p.Runtime != "" && filepath.Clean(p.State) == filepath.Clean(stateDir) {
			dir = p.Runtime
			break
		}
	}
	if w.Socket = filepath.Join(dir, socketName); len(w.Socket) <= maxSocket {
		return w
	}
	sum := sha256.Sum256([]byte(filepath.Clean(stateDir)))
	private := filepath.Join(os.TempDir(), fmt.Sprintf("capagent-%d", os.Getuid()))
	return Where{Socket: filepath.Join(private, hex.EncodeToString(sum[:8])+".sock"), Private: true}
}

// machine returns the places of an agent that runs for the whole machine.
func machine() paths.Paths {
	p, _ := paths.For(paths.Env{
		OS: runtime.GOOS, System: true,
		Getenv: func(string) string { return "" },
		Stat:   func(string) (fs.FileInfo, error) { return nil, fs.ErrNotExist },
	}, "") // only a user's places can be unknown
	return p
}
