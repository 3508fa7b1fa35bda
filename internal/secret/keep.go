package secret

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"time"

	"github.com/zalando/go-keyring"
)

// The stores that Keep writes to. Their names are those of references.
const (
	DPAPI   = "dpapi"   // Windows: for services, sealed by the machine's key
	Keyring = "keyring" // a desktop's: for the user who is logged on
)

// DefaultStore is the store for who names none.
func DefaultStore() string {
	if runtime.GOOS == "windows" {
		return DPAPI
	}
	return Keyring
}

// ErrNotKept is in the error for a name that a store does not have.
var ErrNotKept = errors.New("no secret of that name")

// Read takes a secret from r by the rules for files: one trailing newline is cut.
func Read(r io.Reader) (Secret, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxBytes+1))
	if err != nil {
		return Secret{}, err
	}
	return fromBytes(data)
}

// Keep stores value under name and returns the reference that leads to it. One that
// has the name already is replaced. The folder of DPAPI (Vault) must be there.
func Keep(ctx context.Context, store, name string, value Secret) (reference string, err error) {
	reference = "@{" + store + ":" + name + "}"
	if value.Reveal() == "" {
		return "", fmt.Errorf("%s: empty", reference)
	}
	return reference, kept(store, name, func() error {
		if store == DPAPI {
			return machineVault().keep(name, value)
		}
		return waitFor(ctx, func() error { return keyring.Set(keyringService, name, value.Reveal()) })
	})
}

// Forget removes what Keep stored.
func Forget(ctx context.Context, store, name string) error {
	return kept(store, name, func() error {
		if store == DPAPI {
			return machineVault().forget(name)
		}
		return waitFor(ctx, func() error { return keyring.Delete(keyringService, name) })
	})
}

func kept(store, name string, do func() error) error {
	if store != DPAPI && store != Keyring {
		return fmt.Errorf("no store is called %q; there are %s and %s", store, DPAPI, Keyring)
	}
	if !entryName.MatchString(name) || len(name) > maxName {
		return fmt.Errorf("expected a name of letters, digits and _.@- with %d characters at most", maxName)
	}
	err := do()
	switch {
	case err == nil:
		return nil
	case errors.Is(err, keyring.ErrNotFound):
		err = ErrNotKept
	case errors.Is(err, keyring.ErrSetDataTooBig):
		err = errors.New("longer than this keyring takes")
	case store == Keyring && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled):
		err = errNoKeyring // the library's text is about D-Bus and helps nobody
	}
	return fmt.Errorf("@{%s:%s}: %w", store, name, err)
}

// maxName bounds names, which become names of files.
const maxName = 64

var errNoKeyring = errors.New("no keyring can be reached; it needs a desktop session, so servers use a _file key or a systemd credential")

// waitFor bounds do, which knows no context: a locked keyring waits for its user. A call
// that outlasts that is left to end with the process.
func waitFor(ctx context.Context, do func() error) error {
	ctx, cancel := context.WithTimeout(ctx, keyringPatience)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- do() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("the keyring did not answer: %w", ctx.Err())
	}
}

// keyringPatience is longer than DefaultTimeout: whoever stores a secret may have to
// unlock the keyring first.
const keyringPatience = time.Minute
