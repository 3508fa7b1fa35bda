package local

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"sync"

	"capagent/internal/quote"
)

// Listener accepts connections at a Where.
type Listener struct {
	net.Listener
	// Token must be shown by whoever comes by loopback. It is empty where the
	// socket's permissions decide.
	Token string

	path  string      // the socket, or the file with the token
	made  fs.FileInfo // what was put there
	close func() error
}

// Listen listens at w, with cfg's group or address. The caller holds the lock of the agent's state directory,
// so what an agent of that directory left there is stale and is replaced; a
// socket that answers, and anything that is no socket, is left alone and is an
// error.
func Listen(ctx context.Context, w Where, cfg Config) (*Listener, error) {
	listen := listenLoopback
	if w.Socket != "" {
		listen = listenSocket
	}
	l, err := listen(ctx, w, cfg)
	if err != nil {
		return nil, fmt.Errorf("listen for control at %s: %w", quote.Path(w.String()), err)
	}
	l.close = sync.OnceValue(l.shut)
	return l, nil
}

// Close ends the listening and removes the socket or the file with the token,
// if they are still those that Listen made. Closing again does nothing.
func (l *Listener) Close() error { return l.close() }

func (l *Listener) shut() error {
	var err error
	if there, serr := os.Lstat(l.path); serr == nil && os.SameFile(there, l.made) {
		err = os.Remove(l.path)
	}
	return errors.Join(err, l.Listener.Close())
}

const (
	tokenLen     = 32      // bytes
	maxTokenFile = 4 << 10 // bytes of the file that holds it
	privateMode  = 0o600
)

// door is the content of the file with the token.
type door struct {
	Address string `json:"address"`
	Token   string `json:"token"` // hexadecimal
}

func listenLoopback(ctx context.Context, w Where, cfg Config) (_ *Listener, err error) {
	if err := checkListen(cfg.Listen); err != nil {
		return nil, err
	}
	inner, err := (&net.ListenConfig{}).Listen(ctx, "tcp", cfg.Listen)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = inner.Close()
		}
	}()
	var raw [tokenLen]byte
	_, _ = rand.Read(raw[:]) // never fails, by its documentation
	l := &Listener{Listener: inner, Token: hex.EncodeToString(raw[:]), path: w.TokenFile}
	text, err := json.Marshal(door{Address: inner.Addr().String(), Token: l.Token})
	if err != nil {
		return nil, err
	}
	if l.made, err = writePrivately(w.TokenFile, text); err != nil {
		return nil, err
	}
	return l, nil
}

// writePrivately puts text at path in one step, for the owner's eyes from the
// beginning, and returns what is there then.
func writePrivately(path string, text []byte) (made fs.FileInfo, err error) {
	if old, err := os.Lstat(path); err == nil && !old.Mode().IsRegular() {
		return nil, errors.New("something else than a regular file is there")
	}
	next := path + ".new"
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	f, err := createPrivate(next)
	if err != nil {
		return nil, err
	}
	if _, err = f.Write(text); err == nil {
		made, err = f.Stat() // by its handle: on Windows a path's is found out when it is compared
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(next, path)
	}
	if err != nil {
		return nil, errors.Join(err, os.Remove(next))
	}
	return made, nil
}
