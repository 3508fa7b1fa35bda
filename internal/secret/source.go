package secret

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"

	"github.com/zalando/go-keyring"
)

const (
	// maxBytes bounds a secret, wherever it comes from.
	maxBytes = 64 << 10
	// keyringService is the name under which a desktop keyring holds our entries.
	keyringService = "capagent"
	// DefaultTimeout bounds a command or a keyring that is not given a Timeout.
	DefaultTimeout = 10 * time.Second
)

// Source is how one secret was given: at most one of Value, File and Command.
type Source struct {
	// Key is the configuration key of the literal ("cloudshark.token"). The
	// other forms are Key+"_file" and Key+"_command"; errors name the one used.
	Key     string
	Value   Secret // a literal, or a reference "@{env|file|systemd|keyring|dpapi:name}"
	File    string // path of a file that holds the secret
	Command string // program and arguments whose standard output is the secret
	// Dir is where relative paths begin; empty means the working directory.
	Dir string
	// LookupEnv reads the environment; nil means os.LookupEnv.
	LookupEnv func(string) (string, bool)
	// Timeout bounds a command and a keyring; 0 means DefaultTimeout.
	Timeout time.Duration
}

// Resolve follows src to its value. A source with nothing set gives the zero
// Secret and no error; one with two forms set is an error that names both keys.
//
// One trailing newline (LF or CRLF) is cut from files and commands. A file must
// be regular, hold 1 byte to 64 KiB, and on Unix be open to its owner only,
// except under $CREDENTIALS_DIRECTORY, where systemd chose the mode. On Windows
// access lists are not looked at.
func Resolve(ctx context.Context, src Source) (Secret, error) {
	if src.LookupEnv == nil {
		src.LookupEnv = os.LookupEnv
	}
	if src.Timeout <= 0 {
		src.Timeout = DefaultTimeout
	}
	if err := src.onlyOne(); err != nil {
		return Secret{}, err
	}
	switch {
	case src.File != "":
		value, err := src.file(src.File)
		return value, keyed(src.Key+"_file", err)
	case src.Command != "":
		value, err := src.command(ctx)
		return value, keyed(src.Key+"_command", err)
	case src.Value.ref:
		value, err := src.reference(ctx)
		return value, keyed(src.Key, err)
	default:
		return src.Value, nil
	}
}

func keyed(key string, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Key: key, Err: err}
}

// Error is a secret that could not be had. Key is the configuration key at
// fault, so that a caller can say where it stands.
type Error struct {
	Key string
	Err error
}

func (e *Error) Error() string { return e.Key + ": " + e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

func (src Source) onlyOne() error {
	var set []string
	if !src.Value.IsZero() {
		set = append(set, src.Key)
	}
	if src.File != "" {
		set = append(set, src.Key+"_file")
	}
	if src.Command != "" {
		set = append(set, src.Key+"_command")
	}
	if len(set) < 2 {
		return nil
	}
	return keyed(set[1], fmt.Errorf("set together with %s; give one of them", set[0]))
}

var (
	referenceForm = regexp.MustCompile(`^@\{([a-z]+):([^{}\x00-\x1f]+)\}$`)
	envName       = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	entryName     = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.@-]*$`)
)

// reference follows "@{store:name}". What does not have that form is not
// quoted back: it may be a secret that happens to begin with "@{".
func (src Source) reference(ctx context.Context) (Secret, error) {
	m := referenceForm.FindStringSubmatch(src.Value.text())
	if m == nil {
		return Secret{}, errors.New(`expected a reference such as "@{env:NAME}"`)
	}
	store, name := m[1], m[2]
	switch store {
	case "env":
		return src.env(name)
	case "file":
		return src.file(name)
	case "systemd":
		return src.systemd(name)
	case Keyring:
		return src.keyring(ctx, name)
	case DPAPI:
		return src.dpapi(name)
	default:
		return Secret{}, errors.New("unknown kind of reference; expected env, file, systemd, keyring or dpapi")
	}
}

func (src Source) env(name string) (Secret, error) {
	if !envName.MatchString(name) {
		return Secret{}, errors.New(`expected the name of a variable, as in "@{env:NAME}"`)
	}
	value, ok := src.LookupEnv(name)
	switch {
	case !ok:
		return Secret{}, fmt.Errorf("@{env:%s}: the variable is not set", name)
	case value == "":
		return Secret{}, fmt.Errorf("@{env:%s}: the variable is empty", name)
	case len(value) > maxBytes:
		return Secret{}, fmt.Errorf("@{env:%s}: the variable is longer than %d bytes", name, maxBytes)
	}
	return New(value), nil
}

func (src Source) systemd(name string) (Secret, error) {
	if !entryName.MatchString(name) {
		return Secret{}, errors.New(`expected the name of a credential, as in "@{systemd:name}"`)
	}
	dir, ok := src.LookupEnv("CREDENTIALS_DIRECTORY")
	if !ok || dir == "" {
		return Secret{}, fmt.Errorf("@{systemd:%s}: CREDENTIALS_DIRECTORY is not set; the unit needs LoadCredential=%s:/path", name, name)
	}
	value, err := readFile(filepath.Join(dir, name), true)
	if errors.Is(err, fs.ErrNotExist) {
		return Secret{}, fmt.Errorf("@{systemd:%s}: no such credential; the unit needs LoadCredential=%s:/path", name, name)
	}
	if err != nil {
		return Secret{}, fmt.Errorf("@{systemd:%s}: %w", name, err)
	}
	return value, nil
}

func (src Source) dpapi(name string) (Secret, error) {
	value, err := machineVault().get(name)
	if err != nil {
		return Secret{}, fmt.Errorf("@{dpapi:%s}: %w", name, err)
	}
	return value, nil
}

func (src Source) keyring(ctx context.Context, name string) (Secret, error) {
	if !entryName.MatchString(name) {
		return Secret{}, errors.New(`expected the name of an entry, as in "@{keyring:name}"`)
	}
	ctx, cancel := context.WithTimeout(ctx, src.Timeout)
	defer cancel()
	type answer struct {
		value string
		err   error
	}
	// The library knows no context, and a locked keyring waits for its user. A
	// call that outlasts the timeout is left to end with the process.
	got := make(chan answer, 1)
	go func() {
		value, err := keyring.Get(keyringService, name)
		got <- answer{value, err}
	}()
	var a answer
	select {
	case a = <-got:
	case <-ctx.Done():
		return Secret{}, fmt.Errorf("@{keyring:%s}: the keyring did not answer: %w", name, ctx.Err())
	}
	switch {
	case errors.Is(a.err, keyring.ErrNotFound):
		return Secret{}, fmt.Errorf("@{keyring:%s}: no entry of that name for service %q", name, keyringService)
	case a.err != nil:
		return Secret{}, fmt.Errorf("@{keyring:%s}: %w", name, errNoKeyring)
	case a.value == "":
		return Secret{}, fmt.Errorf("@{keyring:%s}: the entry is empty", name)
	case len(a.value) > maxBytes:
		return Secret{}, fmt.Errorf("@{keyring:%s}: the entry is longer than %d bytes", name, maxBytes)
	}
	return New(a.value), nil
}

// file reads a secret's file. The path is shown only when it is absolute: a
// bare word may be the secret itself, given to the wrong key.
func (src Source) file(path string) (Secret, error) {
	shown := "the file"
	if filepath.IsAbs(path) {
		shown = fmt.Sprintf("%q", path)
	} else if src.Dir != "" {
		path = filepath.Join(src.Dir, path)
	}
	value, err := readFile(path, src.isCredential(path))
	if err != nil {
		return Secret{}, fmt.Errorf("%s: %w", shown, err)
	}
	return value, nil
}

func (src Source) isCredential(path string) bool {
	dir, ok := src.LookupEnv("CREDENTIALS_DIRECTORY")
	return ok && filepath.IsAbs(dir) && filepath.Dir(filepath.Clean(path)) == filepath.Clean(dir)
}

// readFile follows links (mounted secrets are often links) but looks at what it
// opened. Its errors hold no path.
func readFile(path string, anyMode bool) (Secret, error) {
	// Asked before opening, because opening a FIFO would wait for its writer.
	info, err := os.Stat(path)
	if err != nil {
		return Secret{}, bare(err)
	}
	if !info.Mode().IsRegular() {
		return Secret{}, errors.New("not a regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return Secret{}, bare(err)
	}
	defer func() { _ = f.Close() }()
	if info, err = f.Stat(); err != nil {
		return Secret{}, bare(err)
	}
	switch perm := info.Mode().Perm(); {
	case !info.Mode().IsRegular():
		return Secret{}, errors.New("not a regular file")
	case !anyMode && runtime.GOOS != "windows" && perm&0o066 != 0:
		return Secret{}, fmt.Errorf("open to other users (mode %04o); chmod 600 it", perm)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxBytes+1))
	if err != nil {
		return Secret{}, bare(err)
	}
	return fromBytes(data)
}

// bare drops the path from a file system error.
func bare(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// fromBytes makes a secret of what an editor, echo or a program wrote.
func fromBytes(data []byte) (Secret, error) {
	if len(data) > maxBytes {
		return Secret{}, fmt.Errorf("longer than %d bytes", maxBytes)
	}
	if bytes.HasPrefix(data, []byte{0xff, 0xfe}) || bytes.HasPrefix(data, []byte{0xfe, 0xff}) {
		return Secret{}, errors.New("written as UTF-16; save it as UTF-8")
	}
	text := strings.TrimPrefix(string(data), "\ufeff")
	text = strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\r")
	if text == "" {
		return Secret{}, errors.New("empty")
	}
	return New(text), nil
}
