package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"capagent/internal/ledger"
)

// ledgerTrouble is what problems with the ledger are about.
const ledgerTrouble = "ledger"

// troubles are the words of ledger.Trouble, and what to say of each.
var troubles = map[string]struct{ text, hint string }{
	"disk_full": {"the disk of the state directory is full: nothing can be recorded", "make room; the agent goes on by itself"},
	"read_only": {"the state directory can't be written: nothing can be recorded", "make it writable; the agent goes on by itself"},
	"io":        {"the disk of the state directory reports errors: nothing can be recorded", "check the disk"},
	"busy":      {"another process keeps the ledger busy", ""},
	"files":     {"the limit of open files is reached", "raise LimitNOFILE (ulimit -n)"},
	"damaged":   {"the ledger is damaged; it is set aside at the next start", "restart the agent"},
	"unknown":   {"the ledger can't be used", ""},
}

// troubled notes an error that is the machine's, not a capture's; nil says that
// something was recorded, and so ends what was.
func (d *Daemon) troubled(err error) {
	if err == nil {
		d.fine()
		return
	}
	if errors.Is(err, context.Canceled) {
		return
	}
	class := ledger.Trouble(err)
	switch class {
	case "":
		class = "unknown"
	case "io":
		// SQLite calls an exhausted quota and a read-only disk that, too.
		if real := ledger.Trouble(tryToWrite(filepath.Dir(d.ledger.Path()))); real != "" {
			class = real
		}
	}
	d.problems.raise(class, ledgerTrouble, troubles[class].text+": "+err.Error(), troubles[class].hint)
	d.keeper.makeRoom(class)
}

// errFull says that a disk has too little room for a capture to go on.
var errFull = fmt.Errorf("too little room: %w", syscall.ENOSPC)

// fine ends the troubles with the ledger, except damage: that only a start mends.
func (d *Daemon) fine() {
	for class := range troubles {
		if class == "damaged" {
			continue
		}
		if was := d.problems.clear(class, ledgerTrouble); was != nil {
			d.note("trouble_end", map[string]any{"class": class, "since": was.Since, "count": was.Count})
		}
	}
}

// tryLedger sees whether a trouble that nothing was recorded since is over.
func (d *Daemon) tryLedger() {
	for _, p := range d.problems.list() {
		if p.About == ledgerTrouble && p.Class != "damaged" {
			if err := d.ledger.Note(d.parent, "trouble", map[string]any{"class": p.Class, "since": p.Since}); err == nil {
				d.fine()
			}
			return
		}
	}
}

// tryToWrite makes and deletes a file in dir, and returns why that fails.
func tryToWrite(dir string) error {
	f, err := os.CreateTemp(dir, "try-*")
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, 16<<10))
	return errors.Join(err, f.Sync(), f.Close(), os.Remove(f.Name()))
}
