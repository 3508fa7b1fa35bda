package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"capagent/internal/quote"
	"capagent/internal/safefile"
	"capagent/service/capturing"
)

// keylogVariable is where browsers, curl and others look for the file to write
// TLS secrets into.
const keylogVariable = "SSLKEYLOGFILE"

// keylog is the file of --keylog.
type keylog struct {
	app  *app
	path string
	from int64 // bytes that were in it before: of connections that nobody captured
	made bool  // by us
}

// openKeylog finds the key log, or makes it for a command.
func (a *app) openKeylog(path string, forCommand bool) (*keylog, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	k := &keylog{app: a, path: abs}
	info, err := os.Stat(abs)
	switch {
	case err == nil && !info.Mode().IsRegular():
		return nil, usageError("--keylog %s: expected a file", quote.Path(path))
	case err == nil:
		k.from = info.Size()
		return k, nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, usageError("--keylog %s: %w", quote.Path(path), safefile.Cause(err))
	case !forCommand:
		a.say("%s is not there yet; browsers and others write it when %s names it", quote.Path(path), keylogVariable)
		return k, nil
	}
	// With rights that keep its secrets, which the command would not choose.
	f, err := os.OpenFile(abs, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, usageError("--keylog %s: %w", quote.Path(path), safefile.Cause(err))
	}
	k.made = true
	return k, f.Close()
}

// env tells a command to write the key log, unless somebody has told it already.
func (k *keylog) env() []string {
	if set := os.Getenv(keylogVariable); set != "" {
		if set != k.path {
			k.app.say("%s is %s already: the command writes there, not to --keylog", keylogVariable, quote.Path(set))
		}
		return nil
	}
	return []string{keylogVariable + "=" + k.path}
}

// secrets are those that were added meanwhile.
func (k *keylog) secrets() []byte {
	text, err := k.read()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		k.app.complain(fmt.Errorf("read %s: %w", quote.Path(k.path), safefile.Cause(err)))
	}
	if len(text) > capturing.SecretsRoom {
		k.app.say("%s has more secrets than the capture file has room for", quote.Path(k.path))
	}
	return text
}

func (k *keylog) read() ([]byte, error) {
	f, err := os.Open(k.path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	from := k.from
	if info.Size() < from { // it was begun again
		from = 0
	}
	return io.ReadAll(io.NewSectionReader(f, from, capturing.SecretsRoom+1))
}

// filled returns the file's path, "" when there is no secret in it.
func (k *keylog) filled() string {
	if info, err := os.Stat(k.path); err == nil && info.Size() > 0 {
		return k.path
	}
	k.app.say("no TLS secret was written to %s", quote.Path(k.path))
	return ""
}

// tidy removes the file when we made it and nobody wrote to it.
func (k *keylog) tidy() {
	if info, err := os.Stat(k.path); err == nil && info.Size() == 0 && k.made {
		_ = os.Remove(k.path)
	}
}
