package daemon

import (
	"testing"
	"time"

	"capagent/internal/config"
	"capagent/service"
	"capagent/service/control"
)

// A capture that a schedule names runs in its windows only, through reloads.
func TestCapturesRunByTheClock(t *testing.T) {
	change := func(c *service.Config) {
		c.Schedule = []service.ScheduleConfig{{Name: "x", Capture: "lan", Cron: "0 8 * * *", Timezone: "UTC", Duration: config.Duration(2 * time.Hour)}}
	}
	withLive(t, change, func(t *testing.T, r *rig) int {
		state := func(want control.CaptureState, opened int) {
			t.Helper()
			all := r.state(t).Agent.Captures
			r.cable.mu.Lock()
			defer r.cable.mu.Unlock()
			if len(all) != 1 || all[0].State != want || len(r.cable.opened) != opened || (all[0].Next != nil) != (want == control.Scheduled) {
				t.Errorf("%s: %+v, opened %d times", time.Now().UTC(), all, len(r.cable.opened))
			}
		}
		day := time.Now().UTC().Truncate(24 * time.Hour) // the bubble's time begins at midnight
		to := func(at time.Duration) { time.Sleep(time.Until(day.Add(at))) }
		to(7*time.Hour + 59*time.Minute)
		state(control.Scheduled, 0)
		to(8*time.Hour + time.Second)
		state(control.Capturing, 1)
		r.cable.send(3)
		r.load.CloudShark.Concurrency = 5
		if err := r.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		to(9*time.Hour + 59*time.Minute)
		state(control.Capturing, 1)
		r.cable.send(3)
		to(10*time.Hour + 2*time.Second)
		state(control.Scheduled, 1)
		if all := r.lives(t); len(all) != 1 || all[0].Packets != 6 || all[0].Live.Reason != "ended" || len(all[0].Live.Gaps) != 0 {
			t.Errorf("%+v", all)
		}
		to(32*time.Hour + time.Minute)
		state(control.Capturing, 2)
		r.load.Schedule = nil
		if err := r.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		to(40 * time.Hour)
		state(control.Capturing, 2)
		return 0
	})
}
