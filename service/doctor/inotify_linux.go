package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Each folder has two instances of inotify, for events and for closes, and each of
// them a watch on every folder below.
const perFolder = 2

// inotify compares the system's limits with the folders.
func (x *examination) inotify() []job {
	c := about("inotify", "limits of inotify")
	return []job{{c.ID, c.Title, func(ctx context.Context) []Check { return []Check{x.limits(ctx, c)} }}}
}

func (x *examination) limits(ctx context.Context, c Check) Check {
	watches, err := x.number("sys/fs/inotify/max_user_watches")
	instances, err2 := x.number("sys/fs/inotify/max_user_instances")
	if err := errors.Join(err, err2); err != nil {
		return c.skip("%v", err)
	}
	need, folders := int64(perFolder*len(x.Config.Watch)), int64(0)
	for _, w := range x.Config.Watch {
		n, err := countFolders(ctx, w.Path, w.Recursive, watches)
		if err != nil && ctx.Err() != nil {
			return c.skip("counting the folders below %s takes too long", w.Path)
		}
		folders += n
	}
	text := fmt.Sprintf("folders: %d, watches: %d of %d, instances: %d of %d", folders, perFolder*folders, watches, need, instances)
	switch {
	case perFolder*folders > watches:
		return c.warn(sysctl("max_user_watches", 2*perFolder*folders), "%s; what is too much is scanned only, and new files are found later", text)
	case need > instances:
		return c.warn(sysctl("max_user_instances", 2*need), "%s; what is too much is scanned only, and new files are found later", text)
	}
	return c.ok("%s", text)
}

func sysctl(key string, value int64) string {
	return fmt.Sprintf("echo fs.inotify.%s=%d | sudo tee /etc/sysctl.d/60-capagent.conf && sudo sysctl --system", key, value)
}

func (x *examination) number(name string) (int64, error) {
	text, err := os.ReadFile(filepath.Join(x.proc, name))
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
}

// countFolders counts up to what is certainly too many.
func countFolders(ctx context.Context, dir string, recursive bool, most int64) (n int64, err error) {
	if !recursive {
		return 1, nil
	}
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return nil // what can't be read is not watched
		case d.IsDir():
			n++
		}
		if n > most {
			return fs.SkipAll
		}
		return nil
	})
	return n, err
}
