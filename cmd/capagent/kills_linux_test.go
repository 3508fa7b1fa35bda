package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"capagent/internal/traffic"
	"capagent/service"
)

var (
	liveKills = flag.Int("live.kills", 5, "how often TestKillsWhileCapturing kills the agent")
	liveRate  = flag.Float64("live.rate", 20_000, "packets of 1500 bytes a second meanwhile")
)

// A file is flushed each second, and when a buffer of it is full; what was sent
// before that is in it.
const (
	flushed  = 2 * time.Second
	slowRate = 500 // packets a second that fill no buffer within it
)

// victim is a sensor whose agent is killed again and again while packets come,
// and the account of what it must have kept.
type victim struct {
	*sensor
	kills    [][2]int64       // in Unix nanoseconds: before and after
	promised map[string]int   // packets that a kill left in an unfinished file, by its name to come
	judged   map[string]int64 // packets in a complete file, by path
	rows     map[string]bool  // of the judged, by path
	last     numbered         // of all that was judged
	slow     atomic.Bool      // packets come at slowRate
	torn     int              // files that were judged after a kill had left them unfinished
}

// sendUntil sends numbered packets without a pause until ctx is done, and returns
// how many.
func (v *victim) sendUntil(ctx context.Context) (sent uint64) {
	for ctx.Err() == nil {
		load := traffic.Load{Size: 1500, Rate: *liveRate, Duration: 100 * time.Millisecond, First: sent, CPUs: []int{0}}
		if v.slow.Load() {
			load.Rate = slowRate
		}
		some, err := v.Send(ctx, load)
		if sent += some.Packets; err != nil && ctx.Err() == nil {
			v.t.Error(err)
			return sent
		}
	}
	return sent
}

// life runs the agent until one of several kinds of moment. It returns when the
// agent had said that it captures (zero: it did not), and how many packets had
// come by then.
func (v *victim) life(kind int) (capturing time.Time, earlier uint64) {
	random := func(most time.Duration) time.Duration { return rand.N(most) }
	length, rotating, full := random(1500*time.Millisecond), false, 0.6**liveRate
	v.slow.Store(kind%20 == 0)
	switch kind % 10 {
	case 0: // all is in one file
		full = 60 * *liveRate
		length = flushed + time.Second + random(500*time.Millisecond)
	case 1, 4:
		length = random(250 * time.Millisecond) // as it starts
	case 2, 5, 8:
		length, rotating = 3*time.Second, true
	}
	v.configure(held + fmt.Sprintf("[[capture]]\nname = \"lan\"\ninterface = \"vethrx\"\n[capture.rotate]\npackets = %.0f\n", full))
	v.start()
	begun := map[string]bool{}
	for end := time.Now().Add(length); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if capturing.IsZero() && strings.Contains(v.log.String(), `"capturing"`) {
			capturing, earlier = time.Now(), v.arrived()
		}
		if !rotating || capturing.IsZero() {
			continue
		}
		for _, path := range v.spool(".part") {
			begun[path] = true
		}
		if len(begun) > 1 { // the file before is being completed
			end, rotating = time.Now().Add(random(15*time.Millisecond)), false
		}
	}
	at := time.Now().UnixNano()
	if err := v.agent.Process.Kill(); err != nil {
		v.t.Fatalf("%v\n%s", err, v.log)
	}
	_ = v.agent.Wait()
	v.kills = append(v.kills, [2]int64{at, time.Now().UnixNano()})
	return capturing, earlier
}

// follows fails the test unless p comes after what was judged before it, at once
// or in a later life.
func (v *victim) follows(p numbered, path string) {
	before := v.last
	v.last = p
	if before == (numbered{}) || p.number == before.number+1 {
		return
	}
	killed := slices.ContainsFunc(v.kills, func(k [2]int64) bool { return before.time <= k[1] && p.time > k[0] })
	if p.number <= before.number || !killed {
		v.t.Fatalf("%s: packet %d at %d comes behind %d at %d; kills at %v", path, p.number, p.time, before.number, before.time, v.kills)
	}
}

// judge looks at what is new in the spool of an agent that does not run, and
// returns the packets that came since.
func (v *victim) judge(since int64) (life []numbered) {
	v.t.Helper()
	saw := func(all []numbered) {
		for _, p := range all {
			if p.time > since {
				life = append(life, p)
			}
		}
	}
	var paths []string
	for _, path := range v.spool(".pcapng") {
		if _, ok := v.judged[path]; ok {
			continue
		}
		all := readNumbered(v.t, path)
		for _, p := range all {
			v.follows(p, path)
		}
		if left, ok := v.promised[path]; ok {
			if len(all) != left {
				v.t.Errorf("%s: a kill left %d packets, %d are there", path, left, len(all))
			}
			if v.torn++; v.torn%10 == 1 {
				opensWithoutWarning(v.t, path)
			}
		}
		saw(all)
		v.judged[path] = int64(len(all))
		paths = append(paths, path)
	}
	v.readable(paths)
	for _, path := range v.spool(".part") {
		all, _ := readUntilTorn(path)
		if len(all) > 0 {
			v.promised[strings.TrimSuffix(path, ".part")] = len(all)
		}
		saw(all)
	}
	return life
}

// readable has Wireshark's reader go through the files.
func (v *victim) readable(paths []string) {
	v.t.Helper()
	if _, err := exec.LookPath("capinfos"); err != nil || len(paths) == 0 {
		return
	}
	cmd := exec.CommandContext(v.t.Context(), "capinfos", append([]string{"-c"}, paths...)...)
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	if err := cmd.Run(); err != nil || complaints.Len() > 0 {
		v.t.Errorf("capinfos: %v\n%s", err, &complaints)
	}
}

// ends are the first and the last of them.
func ends(all []numbered) []numbered {
	if len(all) > 2 {
		return []numbered{all[0], all[len(all)-1]}
	}
	return all
}

// recorded checks the judged files against the ledger, and removes those that
// are in it: the disk would not hold all.
func (v *victim) recorded() {
	v.t.Helper()
	for line := range strings.Lines(v.run("ls", "--json")) {
		var row service.View
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			v.t.Fatal(err)
		}
		packets, ok := v.judged[row.Path]
		if !ok || v.rows[row.Path] {
			continue
		}
		_, left := v.promised[row.Path]
		if row.Source != "capture:lan" || row.Packets != packets || row.Capture == nil || left && !row.Capture.Recovered {
			v.t.Errorf("%d packets, left unfinished %t: %s", packets, left, line)
		}
		v.rows[row.Path] = true
		if err := os.Remove(row.Path); err != nil {
			v.t.Error(err)
		}
	}
}

// Whenever an agent is killed, also as it starts and from one file to the next,
// what had reached its files is kept, once, in order and in files that are whole.
func TestKillsWhileCapturing(t *testing.T) {
	s := newSensor(t, held)
	v := &victim{sensor: s, promised: map[string]int{}, judged: map[string]int64{}, rows: map[string]bool{}}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	sending := make(chan uint64, 1)
	go func() { sending <- v.sendUntil(ctx) }()
	since, captured := int64(0), 0
	for n := range *liveKills {
		capturing, earlier := v.life(n)
		killed := v.kills[n][0]
		life := v.judge(since)
		since = v.kills[n][1]
		due := killed - int64(flushed)
		if !capturing.IsZero() {
			captured++
		}
		switch {
		case capturing.IsZero() || len(life) == 0 && capturing.UnixNano() > due:
		case len(life) == 0 || life[0].number > earlier || capturing.UnixNano() < due && life[len(life)-1].time < due:
			t.Errorf("kill %d at %d: captured since %d, when %d packets had come; the first and the last of %d that are kept are %+v",
				n, killed, capturing.UnixNano(), earlier, len(life), ends(life))
		}
		if n%20 == 19 {
			v.recorded()
			t.Logf("%d kills, %d files", n+1, len(v.judged))
		}
		if t.Failed() {
			t.Fatalf("kill %d, with the state in %s\n%s", n, s.state, s.log)
		}
	}
	v.slow.Store(false)
	s.start()
	s.answers()
	s.taken(uint64(*liveRate / 2))
	stop()
	sent := <-sending
	s.stop()
	v.judge(since)
	v.recorded()
	if v.last.number != sent-1 || len(s.spool(".part")) > 0 {
		t.Errorf("%d sent, %d is the last one kept; %q", sent, v.last.number, s.spool(".part"))
	}
	packets := int64(0)
	for path, n := range v.judged {
		if packets += n; !v.rows[path] {
			t.Errorf("no row: %s", path)
		}
	}
	for path := range v.promised {
		if _, ok := v.judged[path]; !ok {
			t.Errorf("what a kill left is not there: %s", path)
		}
	}
	if captured == 0 || v.torn == 0 && *liveKills >= 20 {
		t.Errorf("%d of the killed captured, %d files were left unfinished", captured, v.torn)
	}
	t.Logf("%d kills, %d while it captured: %d files with %d packets of %d sent, %d files recovered", *liveKills, captured, len(v.judged), packets, sent, v.torn)
}
