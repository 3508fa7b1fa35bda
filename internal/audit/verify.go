package audit

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"capagent/internal/ledger"
)

// Record is what the ledger knows of the log. *ledger.Ledger is one, also when it
// is open for reading.
type Record interface {
	AuditLock(ctx context.Context) (unlock func() error, err error)
	AuditHead(ctx context.Context) (seq int64, head string, err error)
	Events(ctx context.Context, limit int) ([]ledger.Event, error)
}

// Result is what Verify found.
type Result struct {
	Files  int      `json:"files"`
	Lines  int64    `json:"lines"`
	Seq    int64    `json:"seq"`            // of the last line
	Head   string   `json:"head"`           // the last line's hash: kept elsewhere, it proves all before it
	Last   string   `json:"last,omitempty"` // the last line's time
	Torn   int64    `json:"torn,omitempty"` // bytes of a line that a crash left unfinished at the end; the agent cuts and notes it
	Broken *Break   `json:"broken,omitempty"`
	Noted  []Remark `json:"noted,omitempty"` // what the agent noted of the log itself, at most 100
}

// OK says whether the log is whole.
func (r *Result) OK() bool { return r.Broken == nil }

// Break is the first place at which the log is not what was written.
type Break struct {
	File string `json:"file"` // its name in the state directory
	Line int64  `json:"line"` // from 1; 0 when the file itself is what is wrong
	What string `json:"what"`
}

func (b *Break) Error() string {
	if b.Line == 0 {
		return b.File + ": " + b.What
	}
	return fmt.Sprintf("%s line %d: %s", b.File, b.Line, b.What)
}

// Remark is an event of the log's own: a torn write that was cut off, or a log
// that was not what the ledger had recorded.
type Remark struct {
	File  string          `json:"file"`
	Line  int64           `json:"line"`
	Seq   int64           `json:"seq"`
	Time  string          `json:"time"`
	Event string          `json:"event"`
	Data  json.RawMessage `json:"data"`
}

const maxRemarks = 100

// Verify reads the whole log in dir, with flat memory, and compares every line
// with the one behind it, the numbers, and the end with what the ledger recorded.
// Without a ledger (nil) the end of the log, and its last line, are not known to
// be right. The error says that it could not be read; a break is in the Result.
// It does not disturb an agent that writes, and ends with ctx.
func Verify(ctx context.Context, dir string, record Record) (Result, error) {
	v := newVerifier()
	files, err := v.snapshot(ctx, dir, record)
	defer func() {
		for _, f := range files {
			_ = f.Close() // only read
		}
	}()
	for _, f := range files {
		if err == nil {
			err = v.file(ctx, f)
		}
	}
	if err != nil {
		return v.Result, fmt.Errorf("verify the audit log: %w", err)
	}
	v.end()
	return v.Result, nil
}

// logFile is a file of the log as it was when Verify began.
type logFile struct {
	name string
	path string
	open *os.File // the one that is being written; nil for an archive
	size int64
}

func (f *logFile) Close() error {
	if f.open == nil {
		return nil
	}
	return f.open.Close()
}

type place struct {
	file string
	line int64
}

// verifier walks the lines of all files.
type verifier struct {
	Result
	at       place
	prev     string // hash of the last line
	next     int64  // number that the next line should have; 0 when the last one can't be read
	last     place  // of the last line
	suspect  *place // the last line does not fit this one before it; the line behind tells which was changed
	anchored bool
	seq      int64 // what the ledger recorded
	head     string
	atSeq    place // of the last line with that number
	sumAtSeq string
	pending  []ledger.Event // what may have been written since
}

func newVerifier() *verifier { return &verifier{prev: genesis, next: 1} }

// snapshot finds the files and what the ledger knows of them at one moment.
func (v *verifier) snapshot(ctx context.Context, dir string, record Record) (files []*logFile, err error) {
	if record != nil {
		v.anchored = true
		unlock, err := record.AuditLock(ctx)
		if err != nil {
			return nil, err
		}
		defer func() { _ = unlock() }() // it ends with the process at the latest
		if v.seq, v.head, err = record.AuditHead(ctx); err != nil {
			return nil, err
		}
		if v.pending, err = record.Events(ctx, batch); err != nil {
			return nil, err
		}
	}
	old, err := archives(dir)
	if err != nil {
		return nil, err
	}
	for _, name := range old { // they don't change, so they are opened one at a time
		files = append(files, &logFile{name: name, path: filepath.Join(dir, name)})
	}
	f, size, err := openLog(filepath.Join(dir, Name), os.O_RDONLY)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return files, nil
	case err != nil:
		return files, err
	}
	return append(files, &logFile{name: Name, open: f, size: size}), nil
}

// file walks one file.
func (v *verifier) file(ctx context.Context, f *logFile) error {
	current := f.open != nil
	if !current {
		opened, size, err := openLog(f.path, os.O_RDONLY)
		if err != nil {
			return err
		}
		f.open, f.size = opened, size
		defer func() { _, f.open = f.open.Close(), nil }()
	}
	return v.read(ctx, f.name, io.LimitReader(f.open, f.size), current)
}

// read walks the lines of one file.
func (v *verifier) read(ctx context.Context, name string, from io.Reader, current bool) error {
	v.Files++
	v.at = place{name, 0}
	r := bufio.NewReaderSize(from, maxLine)
	for {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		raw, err := r.ReadSlice('\n')
		for tooLong := err; errors.Is(tooLong, bufio.ErrBufferFull); {
			raw = nil
			_, tooLong = r.ReadSlice('\n')
		}
		switch {
		case errors.Is(err, io.EOF) && len(raw) == 0:
			return nil
		case errors.Is(err, io.EOF):
			v.torn(int64(len(raw)), current)
			return nil
		case errors.Is(err, bufio.ErrBufferFull):
			v.begin()
			v.unreadable(fmt.Sprintf("longer than %d bytes", maxLine))
		case err != nil:
			return err
		default:
			v.begin()
			v.line(raw[:len(raw)-1])
		}
	}
}

func (v *verifier) begin() {
	v.Lines++
	v.at.line++
}

// torn is a last line without its end. Behind what the ledger recorded a crash
// explains it.
func (v *verifier) torn(bytes int64, current bool) {
	if v.anchored && current && v.Seq >= v.seq {
		v.Torn = bytes
		return
	}
	v.at.line++
	v.broken(v.at, "it is not whole")
}

// unreadable is a line that is none. What follows can be compared with one another
// again.
func (v *verifier) unreadable(why string) {
	v.broken(v.at, "not a line of the log: "+why)
	v.prev, v.next, v.last, v.suspect = "", 0, v.at, nil
}

func (v *verifier) line(raw []byte) {
	line, err := parse(raw)
	if err != nil {
		v.resolve("")
		v.unreadable(err.Error())
		return
	}
	v.resolve(line.Prev)
	sum := hash(raw)
	switch first, archived := archiveSeq(v.at.file); {
	case v.next != 0 && line.Seq != v.next:
		v.broken(v.at, v.misplaced(line.Seq))
	case archived && v.at.line == 1 && line.Seq != first:
		v.broken(v.at, fmt.Sprintf("the file's name says that it begins with number %d, not %d", first, line.Seq))
	case v.prev != "" && line.Prev != v.prev:
		if line.Seq == 1 {
			v.broken(v.at, "the first line does not begin a log")
		}
		before := v.last
		v.suspect = &before
	}
	v.known(line, raw)
	if line.Event == eventTorn || line.Event == eventBreak {
		v.remark(line)
	}
	v.prev, v.next, v.last = sum, line.Seq+1, v.at
	v.Seq, v.Head, v.Last = line.Seq, sum, line.Time
	if line.Seq == v.seq {
		v.atSeq, v.sumAtSeq = v.at, sum
	}
}

func (v *verifier) misplaced(seq int64) string {
	switch {
	case v.Lines == 1:
		return fmt.Sprintf("the log begins with number %d; what was before it is missing", seq)
	case seq > v.next:
		return fmt.Sprintf("number %d follows number %d: what was between is missing", seq, v.next-1)
	default:
		return fmt.Sprintf("number %d follows number %d: it was put in, or the log was set back", seq, v.next-1)
	}
}

// resolve tells which of two lines that don't fit was changed: the last one is as
// it was when its hash is what is known of it, by the line behind it or by the
// ledger.
func (v *verifier) resolve(known string) {
	if v.suspect == nil {
		return
	}
	changed, what := *v.suspect, "it was changed: the line behind it has another hash of it"
	if known != v.prev {
		changed, what = v.last, "it does not follow the line before it"
	}
	v.suspect = nil
	v.broken(changed, what)
}

// known says whether a line behind what the ledger recorded is one that the ledger
// still has as an event: it was written, and then there was a crash.
func (v *verifier) known(line Line, raw []byte) {
	if !v.anchored || line.Seq <= v.seq {
		return
	}
	i := line.Seq - v.seq - 1
	if i < int64(len(v.pending)) && isEvent(raw, v.pending[i], line.Prev) {
		return
	}
	if v.seq == 0 {
		v.broken(v.at, "the ledger knows nothing of this log: it was rebuilt, or is another one")
		return
	}
	v.broken(v.at, fmt.Sprintf("the ledger does not know it: it recorded the log up to number %d", v.seq))
}

func (v *verifier) remark(line Line) {
	if len(v.Noted) < maxRemarks {
		v.Noted = append(v.Noted, Remark{v.at.file, v.at.line, line.Seq, line.Time, line.Event, line.Data})
	}
}

// end compares the end of the log with what the ledger recorded.
func (v *verifier) end() {
	if v.Seq == v.seq {
		v.resolve(v.head)
	} else {
		v.resolve("")
	}
	switch {
	case !v.anchored || v.seq == 0:
	case v.Files == 0:
		v.broken(place{Name, 0}, fmt.Sprintf("the log is missing; the ledger recorded it up to number %d", v.seq))
	case v.sumAtSeq == "":
		v.broken(v.at, fmt.Sprintf("the log ends here with number %d; the ledger recorded it up to number %d", v.Seq, v.seq))
	case v.sumAtSeq != v.head:
		v.broken(v.atSeq, "it was changed: the ledger recorded another hash of it")
	}
}

// broken records the first break.
func (v *verifier) broken(at place, what string) {
	if v.Broken == nil {
		v.Broken = &Break{File: at.file, Line: at.line, What: what}
	}
}
