package local

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"path/filepath"
	"time"

	"capagent/internal/failure"
	"capagent/internal/quote"
	"capagent/internal/safefile"
)

// ErrNoAgent says that nothing listens where the agent would.
var ErrNoAgent = errors.New("no agent is running")

// Endpoint is a place that was looked up.
type Endpoint struct {
	Token string // to be shown, "" where none is wanted

	where   Where
	network string
	address string
}

// dialTimeout bounds the wait for an agent that exists but does not accept.
const dialTimeout = 5 * time.Second

// Find looks up w. The error is ErrNoAgent when there is nothing.
func Find(w Where) (Endpoint, error) {
	if w.Socket == "" {
		return findLoopback(w)
	}
	if w.Private {
		err := checkPrivate(filepath.Dir(w.Socket))
		if errors.Is(err, fs.ErrNotExist) {
			return Endpoint{}, w.explain(err)
		}
		if err != nil {
			return Endpoint{}, fmt.Errorf("reach the agent: %w", err)
		}
	}
	return Endpoint{where: w, network: "unix", address: w.Socket}, nil
}

func findLoopback(w Where) (Endpoint, error) {
	f, _, err := safefile.Open(w.TokenFile)
	if err != nil {
		return Endpoint{}, w.explain(err)
	}
	defer func() { _ = f.Close() }() // only read
	text, err := io.ReadAll(io.LimitReader(f, maxTokenFile))
	if err != nil {
		return Endpoint{}, w.explain(err)
	}
	var d door
	err = json.Unmarshal(text, &d)
	if token, hexErr := hex.DecodeString(d.Token); err != nil || hexErr != nil || len(token) != tokenLen || checkListen(d.Address) != nil {
		return Endpoint{}, fmt.Errorf("reach the agent: %s does not hold what an agent writes there", quote.Path(w.TokenFile))
	}
	return Endpoint{Token: d.Token, where: w, network: "tcp", address: d.Address}, nil
}

// Dial connects. The error is ErrNoAgent when nobody listens.
func (e Endpoint) Dial(ctx context.Context) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, e.network, e.address)
	if err != nil {
		return nil, e.where.explain(err)
	}
	return conn, nil
}

// explain turns an error on the way to an agent into what it means.
func (w Where) explain(err error) error {
	var timeout net.Error
	switch {
	case errors.Is(err, fs.ErrNotExist), refused(err):
		return fmt.Errorf("%w (nothing listens at %s)", ErrNoAgent, quote.Path(w.String()))
	case errors.Is(err, fs.ErrPermission):
		hint := "run it as root, or as the agent's own user"
		if group := groupOf(w.Socket); w.Socket != "" && group != "" && group != "root" && group != "0" {
			hint = fmt.Sprintf("run it as root, or as a member of the group %s", quote.Path(group))
		}
		return &failure.Error{
			Kind: failure.Permanent, Class: "no_permission", Hint: hint,
			Err: fmt.Errorf("reach the agent at %s: permission denied", quote.Path(w.String())),
		}
	case errors.Is(err, context.Canceled):
		return err
	case errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Errorf("reach the agent at %s: it does not answer", quote.Path(w.String()))
	default:
		return fmt.Errorf("reach the agent at %s: %w", quote.Path(w.String()), safefile.Cause(err))
	}
}

// Host is what callers say whom they want to talk to.
func (e Endpoint) Host() string {
	if e.network == "tcp" {
		return e.address
	}
	return "agent"
}
