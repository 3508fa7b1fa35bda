package httpx_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"testing"
	"time"

	"capagent/internal/httpx"
)

// ends notes connections as they are announced, and looks whether the server has
// seen them by then.
type ends struct {
	mu             sync.Mutex
	accepted       map[netip.AddrPort]bool
	open           map[netip.AddrPort]netip.AddrPort // by local end
	told           int
	late, mistaken []netip.AddrPort
}

func (e *ends) connecting(local, remote netip.AddrPort) func() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.told++
	if e.accepted[local] {
		e.late = append(e.late, local)
	}
	e.open[local] = remote
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		if _, ok := e.open[local]; !ok {
			e.mistaken = append(e.mistaken, local)
		}
		delete(e.open, local)
	}
}

func (e *ends) count() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.open)
}

func TestConnectionsAreAnnouncedBeforeTheyAreMade(t *testing.T) {
	e := &ends{accepted: map[netip.AddrPort]bool{}, open: map[netip.AddrPort]netip.AddrPort{}}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.mu.Lock()
		defer e.mu.Unlock()
		if _, ok := e.open[netip.MustParseAddrPort(r.RemoteAddr)]; !ok {
			t.Errorf("a request came from %s, which nobody was told of", r.RemoteAddr)
		}
	}))
	server.Config.ConnState = func(c net.Conn, s http.ConnState) {
		e.mu.Lock()
		defer e.mu.Unlock()
		switch remote := c.RemoteAddr().(*net.TCPAddr).AddrPort(); s {
		case http.StateNew:
			e.accepted[remote] = true
		case http.StateClosed:
			delete(e.accepted, remote) // its port may come again
		}
	}
	server.Start()
	defer server.Close()
	c, err := httpx.New(httpx.Options{Connecting: e.connecting})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Close = true // a connection for each request
		if _, err := c.Do(req); err != nil {
			t.Fatal(err)
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1:1", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Do(req); err == nil {
		t.Error("something answers at port 1")
	}
	c.Close()
	for deadline := time.Now().Add(10 * time.Second); e.count() > 0 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond) // the transport closes on its own time
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.told != 4 || len(e.late) > 0 || len(e.mistaken) > 0 || len(e.open) > 0 {
		t.Errorf("told of %d connections, late of %v, twice ended %v, never ended %v", e.told, e.late, e.mistaken, e.open)
	}
}
