// Package lists matches indicators with lists that lie in files: downloads of
// ThreatConnect, Zeek's intelligence files, bundles of STIX, plain lists. Nothing
// of it needs a network.
package lists

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"capagent/enrich/verdict"
)

// Config is one [[list]] of the configuration.
type Config struct {
	Name       string   `toml:"name"`       // of the source in verdicts
	File       string   `toml:"file"`       // what its content says it is; it may be packed by gzip
	Owner      string   `toml:"owner"`      // where the file names none; default: the name
	Rating     *float64 `toml:"rating"`     // 0 to 5, of formats that have none; default 3
	Confidence *int     `toml:"confidence"` // percent, likewise; default 50
	Subdomains bool     `toml:"subdomains"` // every host stands for those below it, too
}

func (c Config) owner() string {
	if c.Owner != "" {
		return c.Owner
	}
	return c.Name
}

// The defaults of formats that say nothing of how bad or how sure something is.
const (
	DefaultRating     = 3.0
	DefaultConfidence = 50
)

// Check says what is wrong with a Config.
func (c Config) Check() error {
	switch {
	case c.Name == "":
		return errors.New("a list needs a name")
	case len(c.Name) > maxOwner || oneLine(c.Name, maxOwner) != c.Name || strings.ContainsAny(c.Name, ",\""):
		return fmt.Errorf("list %q: a name is at most %d characters on one line without commas and quotes", c.Name, maxOwner)
	case c.File == "":
		return fmt.Errorf("list %q needs a file", c.Name)
	case c.Rating != nil && !(*c.Rating >= 0 && *c.Rating <= 5):
		return fmt.Errorf("list %q: a rating is 0 to 5", c.Name)
	case c.Confidence != nil && (*c.Confidence < 0 || *c.Confidence > 100):
		return fmt.Errorf("list %q: a confidence is 0 to 100", c.Name)
	}
	return nil
}

// checkEvery is how often a look-up asks whether the file is another one.
const checkEvery = time.Minute

// List is a list. Its methods may be called from any goroutine.
type List struct {
	config Config
	log    zerolog.Logger
	ready  atomic.Pointer[version] // nil until one was read

	mu      sync.Mutex // of what follows; held while a version is read
	checked time.Time
	tried   stamp // the file that was read last, well or not
	failure error // why tried is not ready
	told    string
}

// version is what was read of one version of the file.
type version struct {
	*index
	status Status
}

// Status is what there is to know of a list.
type Status struct {
	Format  string
	Read    time.Time        // when
	Entries int64            // that are matched
	Skipped map[string]int64 // why others are not, and how many
	Bytes   int              // of memory
	Error   string           // why the file as it is now is not used
}

// stamp tells one version of a file from another.
type stamp struct {
	size     int64
	modified time.Time
}

// New returns a list. Its file is read at the first look-up: one that is missing or
// broken is said then, and again tried once it has changed.
func New(c Config, log zerolog.Logger) (*List, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	rating, confidence := DefaultRating, DefaultConfidence
	if c.Rating == nil {
		c.Rating = &rating
	}
	if c.Confidence == nil {
		c.Confidence = &confidence
	}
	return &List{config: c, log: log.With().Str("list", c.Name).Logger()}, nil
}

// Name returns the list's name, which is the Source of its verdicts.
func (l *List) Name() string { return l.config.Name }

// Look returns one answer for each indicator that is asked, however often it is. When
// ctx ends, those that it has come with the error. While the file is broken, the
// version before answers; without one there is an error.
func (l *List) Look(ctx context.Context, queries []verdict.Query) ([]verdict.Answer, error) {
	if len(queries) == 0 {
		return nil, ctx.Err()
	}
	v, err := l.current(ctx)
	if err != nil {
		return nil, fmt.Errorf("list %q: %w", l.config.Name, err)
	}
	const between = 256 // two looks at ctx
	now := time.Now().UTC()
	answers := make([]verdict.Answer, 0, len(queries))
	asked := make(map[verdict.Query]struct{}, len(queries))
	for i, q := range queries {
		if i%between == 0 && ctx.Err() != nil {
			return answers, fmt.Errorf("list %q: %w", l.config.Name, context.Cause(ctx))
		}
		if _, before := asked[q]; before {
			continue
		}
		asked[q] = struct{}{}
		found := v.look(q)
		for n := range found {
			found[n].Source = l.config.Name
		}
		answers = append(answers, verdict.Answer{Query: q, Verdicts: found, At: now})
	}
	return answers, nil
}

// Status returns what there is to know of the list now.
func (l *List) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	var s Status
	if v := l.ready.Load(); v != nil {
		s = v.status
		s.Skipped = maps.Clone(s.Skipped)
	}
	if l.failure != nil {
		s.Error = l.failure.Error()
	}
	return s
}

// current returns the version that answers. Who finds that another is reading a new
// one takes the one before.
func (l *List) current(ctx context.Context) (*version, error) {
	if !l.mu.TryLock() {
		if v := l.ready.Load(); v != nil {
			return v, nil
		}
		l.mu.Lock()
	}
	defer l.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	if now := time.Now(); l.checked.IsZero() || now.Sub(l.checked) >= checkEvery {
		err := l.refresh(ctx)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx) // it says nothing of the file
		}
		l.checked, l.failure = now, err
		l.tell()
	}
	if v := l.ready.Load(); v != nil {
		return v, nil
	}
	return nil, l.failure
}

// tell says what is wrong, once for each thing.
func (l *List) tell() {
	text := ""
	if l.failure != nil {
		text = l.failure.Error()
	}
	if text == l.told {
		return
	}
	if l.told = text; text == "" {
		return
	}
	message := "the list can't be read; nothing is matched with it"
	if l.ready.Load() != nil {
		message = "the list can't be read; the version before is used on"
	}
	l.log.Error().Err(l.failure).Str("file", l.config.File).Msg(message)
}

// refresh reads the file when it is another one than was read last.
func (l *List) refresh(ctx context.Context) error {
	info, err := os.Stat(l.config.File)
	if err != nil {
		l.tried = stamp{}
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%q is not a regular file", l.config.File)
	}
	now := stamp{info.Size(), info.ModTime()}
	if now == l.tried {
		return l.failure
	}
	v, err := l.read(ctx, info)
	if ctx.Err() != nil {
		return err
	}
	if l.tried = now; errors.Is(err, errChanged) {
		l.tried = stamp{}
	}
	if err != nil {
		return fmt.Errorf("read %q: %w", l.config.File, err)
	}
	l.ready.Store(v)
	e := l.log.Info().Str("file", l.config.File).Str("format", v.status.Format).Int64("entries", v.status.Entries).Int("bytes", v.status.Bytes)
	for reason, n := range v.status.Skipped {
		e = e.Int64("left out: "+reason, n)
	}
	e.Msg("the list was read")
	return nil
}

// errChanged says that a file was written while it was read.
var errChanged = errors.New("it changes while it is read; it is read again later")

func (l *List) read(ctx context.Context, before fs.FileInfo) (*version, error) {
	if before.Size() > MaxFile {
		return nil, errTooLarge
	}
	f, err := os.Open(l.config.File)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	b := &builder{index: newIndex(), config: l.config, skipped: map[string]int64{}, now: time.Now()}
	format, err := b.parse(&reading{ctx, f})
	if err != nil {
		return nil, err
	}
	after, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if after.Size() != before.Size() || !after.ModTime().Equal(before.ModTime()) {
		return nil, errChanged
	}
	if n := b.skipped[notIndicator]; n > b.taken {
		return nil, fmt.Errorf("taken for a list (%s), %d of %d entries are no indicators", format, n, n+b.taken)
	}
	b.finish()
	return &version{b.index, Status{Format: format, Read: b.now.UTC(), Entries: b.taken, Skipped: b.skipped, Bytes: b.bytes()}}, nil
}

// reading reads a file until ctx ends.
type reading struct {
	ctx context.Context
	f   *os.File
}

func (r *reading) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.f.Read(p)
}
