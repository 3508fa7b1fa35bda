package doctor

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"capagent/capture/watch"
	"capagent/service/control"
)

func TestWhatHoldsTheAgent(t *testing.T) {
	t.Parallel()
	const confined = "Name:\tcapagent\nUid:\t990\t990\t990\t990\nCapEff:\t0000000000002000\nCapBnd:\t0000000000002000\nNoNewPrivs:\t1\nSeccomp:\t2\n"
	why := "landlock: this kernel has none"
	itself := &control.Confined{Landlock: 7, Seccomp: true, Writable: []string{"/var/lib/capagent", "/srv/a\nb"}}
	half, none := &control.Confined{Seccomp: true, Reason: &why}, &control.Confined{Reason: &why}
	for name, tc := range map[string]struct {
		text   string
		own    *control.Confined
		result Result
		says   string
	}{
		"the unit's":          {confined, nil, OK, "capabilities: CAP_NET_RAW\n"},
		"its own":             {confined, itself, OK, "version 7: below /var/lib/capagent, \"/srv/a\\nb\""},
		"an old kernel":       {confined, half, OK, "in force, but for what the agent could take from itself\n"},
		"why":                 {confined, half, OK, "not in force: landlock: this kernel has none"},
		"root":                {strings.Replace(confined, "Uid:\t990\t990", "Uid:\t0\t0", 1), itself, Warn, "runs as root"},
		"no filter":           {strings.Replace(confined, "Seccomp:\t2", "Seccomp:\t0", 1), none, Warn, "not confined"},
		"no filter, so it is": {strings.Replace(confined, "Seccomp:\t2", "Seccomp:\t0", 1), none, Warn, "take confine = false out"},
		"privileges":          {strings.Replace(confined, "NoNewPrivs:\t1", "NoNewPrivs:\t0", 1), itself, Warn, "no new privileges: no"},
		"capabilities":        {strings.Replace(confined, "CapEff:\t0000000000002000", "CapEff:\t0000000000202001", 1), itself, Warn, "CAP_NET_RAW, CAP_SYS_ADMIN, 1 others"},
		"nonsense":            {"\x00::\nUid:\nCapEff: zzz\n", nil, Warn, "not confined"},
	} {
		c := judge(about("sandbox", "sandboxing"), parseStatus([]byte(tc.text)), tc.own)
		if c.Result != tc.result || !strings.Contains(c.Detail+c.Fix, tc.says) {
			t.Errorf("%s: %+v", name, c)
		}
	}
}

func TestLimitsOfInotify(t *testing.T) {
	t.Parallel()
	r := newRig(t, serving{})
	dir := t.TempDir()
	for _, name := range []string{"a/b/c", "d"} {
		ok(t, os.MkdirAll(filepath.Join(dir, name), 0o755))
	}
	r.Config.Watch = []watch.Config{{Path: dir, Recursive: true, After: watch.AfterKeep}}
	r.proc = t.TempDir()
	limits := filepath.Join(r.proc, "sys/fs/inotify")
	ok(t, os.MkdirAll(limits, 0o755))
	set := func(watches, instances string) {
		ok(t, os.WriteFile(filepath.Join(limits, "max_user_watches"), []byte(watches+"\n"), 0o600))
		ok(t, os.WriteFile(filepath.Join(limits, "max_user_instances"), []byte(instances+"\n"), 0o600))
	}
	set("10", "2") // five folders, two of each
	r.wants(t, "inotify", OK, "", "folders: 5")
	set("9", "2")
	r.wants(t, "inotify", Warn, "", "fs.inotify.max_user_watches=20")
	set("10", "1")
	r.wants(t, "inotify", Warn, "", "fs.inotify.max_user_instances=4")
}
