package service

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"unicode/utf8"

	"capagent/internal/audit"
	"capagent/internal/ledger"
	"capagent/internal/safefile"
	"capagent/internal/sums"
)

// Verified is what became of a capture's file.
type Verified string

// The answers of Verify for one capture.
const (
	VerifiedOK         Verified = "ok"         // it is what was recorded
	VerifiedChanged    Verified = "changed"    // its content is another one
	VerifiedMissing    Verified = "missing"    // the agent's own file is not there
	VerifiedGone       Verified = "gone"       // somebody else's file is not there, or is a later capture: its owner may do that
	VerifiedUnreadable Verified = "unreadable" // it is there and can't be read, or is no regular file
	VerifiedPurged     Verified = "purged"     // the agent deleted it, and recorded that
	VerifiedOpen       Verified = "open"       // it is still being written, or has no hash yet
)

// Failed says whether the answer is one that needs a person.
func (v Verified) Failed() bool {
	return v == VerifiedChanged || v == VerifiedMissing || v == VerifiedUnreadable
}

// VerifyOptions say what Verify looks at, and who is told.
type VerifyOptions struct {
	IDs       []int64           // only the files of these captures; nil: all of them, the ledger and the audit log
	OnCapture func(VerifyEntry) // told of each capture, one at a time, in order; may be nil
	OnBytes   func(n int64)     // told of bytes as they are read; may be nil
}

// VerifyEntry is one capture's answer.
type VerifyEntry struct {
	ID          int64        `json:"id"`
	Result      Verified     `json:"result"`
	Path        string       `json:"path"`
	PathBase64  string       `json:"path_base64,omitempty"` // the exact bytes of a path that is not UTF-8
	Name        string       `json:"name"`
	NameBase64  string       `json:"name_base64,omitempty"` // likewise
	State       ledger.State `json:"state"`
	Owned       bool         `json:"owned"` // the agent's own file
	Size        int64        `json:"size"`
	SHA256      string       `json:"sha256"` // as recorded
	SHA1        string       `json:"sha1"`
	FoundSize   int64        `json:"found_size,omitempty"` // of a changed file
	FoundSHA256 string       `json:"found_sha256,omitempty"`
	FoundSHA1   string       `json:"found_sha1,omitempty"`
	Error       string       `json:"error,omitempty"` // why it is unreadable
}

// VerifyResult is what Verify found in all.
type VerifyResult struct {
	Captures map[Verified]int64 `json:"captures"` // how many had which answer
	Bytes    int64              `json:"bytes"`    // that were read of their files
	Ledger   *VerifyLedger      `json:"ledger,omitempty"`
	Audit    *audit.Result      `json:"audit,omitempty"`
}

// VerifyLedger says whether the ledger's structure is whole.
type VerifyLedger struct {
	OK    bool   `json:"ok"`
	Error string `json:"error,omitempty"`
}

// OK says whether everything that was looked at is as it was recorded.
func (r *VerifyResult) OK() bool {
	for answer, n := range r.Captures {
		if answer.Failed() && n > 0 {
			return false
		}
	}
	return (r.Ledger == nil || r.Ledger.OK) && (r.Audit == nil || r.Audit.OK())
}

// Verify compares what lies on the disk with what was recorded of it: the
// structure of the ledger, the chain of the audit log beside it, and the content
// of every capture's file. It changes nothing, runs beside a daemon, keeps about
// 1 MiB in memory and ends with ctx. What it finds is in the result; an error
// (of ctx, or of an unreadable ledger or log) says that it did not come to its end.
func Verify(ctx context.Context, l *ledger.Ledger, opts VerifyOptions) (VerifyResult, error) {
	v := verify{ledger: l, opts: opts, buf: make([]byte, 1<<20)}
	v.Captures = map[Verified]int64{}
	if opts.IDs != nil {
		return v.VerifyResult, v.named(ctx)
	}
	err := v.records(ctx)
	if err != nil {
		return v.VerifyResult, err
	}
	for c, err := range l.List(ctx, ledger.Filter{}) {
		if err == nil {
			err = v.capture(ctx, c)
		}
		if err != nil {
			return v.VerifyResult, err
		}
	}
	return v.VerifyResult, nil
}

// verify is one run of Verify.
type verify struct {
	VerifyResult
	ledger *ledger.Ledger
	opts   VerifyOptions
	buf    []byte
}

// records looks at the ledger and the audit log.
func (v *verify) records(ctx context.Context) error {
	err := v.ledger.Check(ctx)
	if err != nil && !errors.Is(err, ledger.ErrDamaged) {
		return err
	}
	v.Ledger = &VerifyLedger{OK: err == nil}
	if err != nil {
		v.Ledger.Error = err.Error()
	}
	chain, err := audit.Verify(ctx, filepath.Dir(v.ledger.Path()), v.ledger)
	v.Audit = &chain
	return err
}

func (v *verify) named(ctx context.Context) error {
	for _, id := range v.opts.IDs {
		c, err := v.ledger.Get(ctx, id)
		if err == nil {
			err = v.capture(ctx, c)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// capture looks at one capture's file. Where that is missing, the record is read
// again: the daemon may have moved or deleted it meanwhile.
func (v *verify) capture(ctx context.Context, c ledger.Capture) error {
	entry, err := v.file(ctx, c)
	if err == nil && (entry.Result == VerifiedMissing || entry.Result == VerifiedGone) {
		var now ledger.Capture
		now, err = v.ledger.Get(ctx, c.ID)
		if err == nil && (now.Path != c.Path || now.State != c.State) {
			entry, err = v.file(ctx, now)
		}
	}
	if err != nil {
		return err
	}
	v.Captures[entry.Result]++
	if v.opts.OnCapture != nil {
		v.opts.OnCapture(entry)
	}
	return nil
}

func (v *verify) file(ctx context.Context, c ledger.Capture) (VerifyEntry, error) {
	entry := VerifyEntry{
		ID: c.ID, Path: c.Path, Name: c.Name, State: c.State, Owned: c.Owned, Size: c.Size, SHA256: c.SHA256, SHA1: c.SHA1,
	}
	if !utf8.ValidString(c.Path) {
		entry.PathBase64 = base64.StdEncoding.EncodeToString([]byte(c.Path))
	}
	if !utf8.ValidString(c.Name) {
		entry.NameBase64 = base64.StdEncoding.EncodeToString([]byte(c.Name))
	}
	switch {
	case c.State == ledger.Purged:
		entry.Result = VerifiedPurged
		return entry, nil
	case c.State == ledger.StateOpen || c.SHA256 == "":
		entry.Result = VerifiedOpen
		return entry, nil
	}
	pair := sums.New()
	size, err := v.read(ctx, c.Path, pair)
	switch {
	case ctx.Err() != nil:
		return entry, context.Cause(ctx)
	case errors.Is(err, fs.ErrNotExist) && c.Owned:
		entry.Result = VerifiedMissing
	case errors.Is(err, fs.ErrNotExist):
		entry.Result = VerifiedGone
	case err != nil:
		entry.Result, entry.Error = VerifiedUnreadable, safefile.Cause(err).Error()
	case pair.SHA256() == c.SHA256 && (c.SHA1 == "" || pair.SHA1() == c.SHA1):
		entry.Result = VerifiedOK
	default:
		entry.Result = VerifiedChanged
		if known, err := v.known(ctx, c, pair.SHA256()); known || err != nil {
			entry.Result = VerifiedGone
			return entry, err
		}
		entry.FoundSize, entry.FoundSHA256, entry.FoundSHA1 = size, pair.SHA256(), pair.SHA1()
	}
	return entry, nil
}

// known says that somebody else's file is a later capture by now: its owner has
// written it anew, and that was recorded.
func (v *verify) known(ctx context.Context, c ledger.Capture, sha256 string) (bool, error) {
	if c.Owned {
		return false, nil
	}
	for other, err := range v.ledger.List(ctx, ledger.Filter{SHA256: sha256}) {
		if err != nil || other.Path == c.Path {
			return err == nil, err
		}
	}
	return false, nil
}

// read hashes a file and returns its size.
func (v *verify) read(ctx context.Context, path string, into io.Writer) (size int64, err error) {
	f, _, err := safefile.Open(path)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }() // only read
	for ctx.Err() == nil {
		n, err := f.Read(v.buf)
		_, _ = into.Write(v.buf[:n]) // a digest never fails
		size += int64(n)
		v.Bytes += int64(n)
		if v.opts.OnBytes != nil {
			v.opts.OnBytes(int64(n))
		}
		if errors.Is(err, io.EOF) {
			return size, nil
		}
		if err != nil {
			return size, err
		}
	}
	return size, context.Cause(ctx)
}
