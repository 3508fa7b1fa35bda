package daemon

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestASilentLoopIsStuck: one that beats is not, one that has ended neither.
func TestASilentLoopIsStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pulse
		busy, ended, silent := p.begin("busy", time.Minute), p.begin("ended", time.Minute), p.begin("capture eth0", 2*time.Minute)
		ended.end()
		for range 4 {
			time.Sleep(30 * time.Second)
			busy.beat()
			if err := p.stuck(time.Now()); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		if err := p.stuck(time.Now()); err == nil || !strings.Contains(err.Error(), "capture eth0") {
			t.Errorf("%v", err)
		}
		silent.beat()
		if err := p.stuck(time.Now()); err != nil {
			t.Error(err)
		}
	})
}
