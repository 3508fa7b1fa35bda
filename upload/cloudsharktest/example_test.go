package cloudsharktest_test

import (
	"fmt"
	"net"
	"os"
	"testing"

	"capagent/upload/cloudsharktest"
)

// A test of a client: the first upload is stored but its reply is lost, and in
// the end there must be one session.
func ExampleStart() {
	_ = func(t *testing.T) {
		s := cloudsharktest.Start(t, cloudsharktest.Options{})
		s.SetFault(cloudsharktest.Fault{Name: "accept-drop", Times: 1})
		// ... upload to s.URL with s.Token ...
		if n := len(s.Sessions()); n != 1 {
			t.Errorf("%d sessions", n)
		}
		if v := s.Violations(); len(v) > 0 {
			t.Errorf("the contract was violated: %v", v)
		}
	}
}

// A sandbox: sessions are kept in a directory, and the page answers under
// loopback names only.
func ExampleNew() {
	l, err := net.Listen("tcp", "127.0.0.1:8090")
	if err != nil {
		return
	}
	s, err := cloudsharktest.New(cloudsharktest.Options{
		Dir: "sessions", BaseURL: "http://" + l.Addr().String(), LoopbackNames: true,
	})
	if err != nil {
		return
	}
	fault, err := cloudsharktest.ParseFault("busy:times=2,retry_after=5")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	s.AddFault(fault)
	h := cloudsharktest.NewHTTPServer(s.Handler())
	go func() { _ = h.Serve(l) }()
	// ... until the user stops it ...
	_ = s.Close() // first: it releases what hangs
	_ = h.Close()
}
