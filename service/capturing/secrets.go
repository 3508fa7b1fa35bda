package capturing

import (
	"bytes"
	"fmt"
	"os"
	"strings"

	"capagent/internal/quote"
	"capagent/internal/safefile"
	"capagent/rotate/pcapfile"
)

// SecretsRoom is how many bytes of TLS secrets a pcapng file has room for.
const SecretsRoom = 256 << 10

const secretsHead = 16 // bytes of a secrets block before the secrets: type, length, kind, length

// secrets is the block of a file that TLS secrets go into when the capture has
// ended. They must stand before the packets that they open, and are not known
// before these come: so the block begins as lines of comment.
type secrets struct {
	path string
	at   int64
}

// makeRoom writes the block; w has begun the file and holds no packet.
func makeRoom(w *pcapfile.Writer, path string) (*secrets, error) {
	s := &secrets{path: path, at: w.Size() + secretsHead}
	return s, w.KeyLog(filled(nil))
}

// filled is text and comments that fill the block.
func filled(text []byte) []byte {
	text = text[:min(len(text), SecretsRoom)]
	if len(text) == SecretsRoom || len(text) > 0 && text[len(text)-1] != '\n' {
		text = text[:bytes.LastIndexByte(text, '\n')+1] // whole lines only
	}
	all := make([]byte, 0, SecretsRoom)
	all = append(all, text...)
	for len(all) < SecretsRoom {
		line := "#" + strings.Repeat(".", min(80, SecretsRoom-len(all)-1))
		all = append(append(all, line[:len(line)-1]...), '\n')
	}
	return all
}

// fill writes text, in the format of SSLKEYLOGFILE, into the file, which is
// complete, and syncs it.
func (s *secrets) fill(text []byte) error {
	f, err := os.OpenFile(s.path, os.O_WRONLY, 0)
	if err == nil {
		if _, err = f.WriteAt(filled(text), s.at); err == nil {
			err = f.Sync()
		}
		if closed := f.Close(); err == nil {
			err = closed
		}
	}
	if err != nil {
		return fmt.Errorf("write secrets into %s: %w", quote.Path(s.path), safefile.Cause(err))
	}
	return nil
}
