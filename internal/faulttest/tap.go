//go:build linux

package faulttest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Tap is a server that takes every upload and notes when its first byte came.
type Tap struct {
	URL string

	mu    sync.Mutex
	first map[string]time.Time // by session name
	http  *http.Server
}

// StartTap starts one; it ends with ctx.
func StartTap(ctx context.Context) (*Tap, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	t := &Tap{URL: "http://" + l.Addr().String(), first: map[string]time.Time{}}
	t.http = &http.Server{Handler: http.HandlerFunc(t.serve), ReadHeaderTimeout: time.Minute}
	go func() { _ = t.http.Serve(l) }()
	context.AfterFunc(ctx, func() { _ = t.http.Close() })
	return t, nil
}

func (t *Tap) serve(w http.ResponseWriter, r *http.Request) {
	name := r.URL.Query().Get("filename")
	if !strings.HasSuffix(r.URL.Path, "/upload") {
		http.Error(w, `{"status":404,"exceptions":["not here"]}`, http.StatusNotFound)
		return
	}
	if _, err := io.ReadFull(r.Body, make([]byte, 1)); err != nil {
		return
	}
	now := time.Now()
	t.mu.Lock()
	if _, again := t.first[name]; !again {
		t.first[name] = now
	}
	t.mu.Unlock()
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return
	}
	var id [6]byte
	_, _ = rand.Read(id[:]) // never fails
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]string{"id": hex.EncodeToString(id[:]), "filename": name})
}

// First is when the first byte of a file's content came, by the file's SHA-256.
func (t *Tap) First(sum string) (time.Time, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name, at := range t.first {
		if strings.Contains(name, sum[:12]) {
			return at, true
		}
	}
	return time.Time{}, false
}
