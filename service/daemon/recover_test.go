package daemon

import (
	"fmt"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"capagent/service"
)

// While the spool is looked through for what a crash left, files come and are
// copied into it: these copies are none of that.
func TestCopiesAreMadeWhileTheSpoolIsRecovered(t *testing.T) {
	const files = 20
	for turn := range 10 {
		r := &rig{folder: t.TempDir(), server: &server{sessions: map[string]int{}}, ended: make(chan error, 1), cable: &cable{}}
		for i := range files {
			r.put(t, fmt.Sprintf("%d.pcap", i), i)
		}
		r.again(t, t.TempDir(), zerolog.Nop(), func(c *service.Config) { c.Watch[0].Copy = true })
		for deadline := time.Now().Add(10 * time.Second); r.server.count() < files && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
		if n := r.server.count(); n != files {
			t.Errorf("turn %d: %d sessions of %d files", turn, n, files)
		}
		if err := r.end(); err != nil {
			t.Error(err)
		}
	}
}
