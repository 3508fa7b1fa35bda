//go:build linux

package faulttest

import (
	"errors"
	"net"
	"testing"
	"time"
)

func TestNetworkIsDisturbedAndMended(t *testing.T) {
	if err := CanDisturb(); err != nil {
		t.Skip(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("hello"))
			_ = c.Close()
		}
	}()
	_, port, err := net.SplitHostPort(l.Addr().String())
	check(t, err)
	n := Network{port}
	check(t, n.Clear())
	try := func() bool {
		c, err := net.DialTimeout("tcp", l.Addr().String(), 200*time.Millisecond)
		if err != nil {
			return false
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(time.Second))
		k, _ := c.Read(make([]byte, 5))
		return k == 5
	}
	for _, step := range []struct {
		name string
		do   func() error
		want bool
	}{
		{"clear", n.Clear, true},
		{"swallow", n.Swallow, false},
		{"reset", func() error { return n.Reset(999) }, false},
		{"slow", func() error { return errors.Join(n.Clear(), n.Slow("1mbit")) }, true},
	} {
		check(t, step.do())
		if got := try(); got != step.want {
			t.Errorf("%s: %v", step.name, got)
		}
		if count, err := n.Attempts(); err != nil || count < 1 {
			t.Errorf("%s: %d attempts, %v", step.name, count, err)
		}
	}
	check(t, n.Clear())
	if count, err := n.Attempts(); err != nil || count != 0 {
		t.Errorf("cleared: %d attempts, %v", count, err)
	}
}
