package logs

import (
	"context"
	"errors"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

const (
	window    = time.Minute // a cause has one line in it
	tick      = time.Second // how late a line that stands for others may be
	maxCauses = 256         // told apart at a time; all further ones share a line
	maxLine   = 16 << 10    // bytes; a longer line is not limited, as it would have to be kept
)

// Limiter lets one line per cause and minute through: the first at once, and at
// the end of the minute the last of those that followed, with a field "repeated"
// that says how many lines it stands for. So it goes on, minute after minute,
// until the cause rests for one. Only warnings and errors are limited; all else
// passes as it is. A cause is a level with a class and what it is about, see
// appendCause. Lines of more causes than are told apart have "others" instead,
// the number of lines of whatever cause.
//
// It stands in front of the formatter, takes lines from any goroutine and
// writes them one after the other.
type Limiter struct {
	mu     sync.Mutex
	out    io.Writer
	causes map[string]*cause
	others cause // of the causes beyond maxCauses
	key    []byte
	line   []byte
	closed bool
}

// cause is what happened since a cause's last line. The zero value is a cause
// that rests.
type cause struct {
	until    time.Time // end of its minute; zero: it has none
	repeated int
	last     []byte // of the repeated lines
}

func newLimiter(out io.Writer) *Limiter {
	return &Limiter{out: out, causes: make(map[string]*cause)}
}

// Write writes a line without a level, which is never limited.
func (l *Limiter) Write(line []byte) (int, error) {
	return l.WriteLevel(zerolog.NoLevel, line)
}

// WriteLevel takes one whole line; zerolog calls it.
func (l *Limiter) WriteLevel(level zerolog.Level, line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || level != zerolog.WarnLevel && level != zerolog.ErrorLevel || len(line) > maxLine {
		return l.out.Write(line)
	}
	now := time.Now()
	c := l.cause(level, line)
	switch {
	case now.Before(c.until):
		c.repeated++
		c.last = append(c.last[:0], line...)
		return len(line), nil
	case c.repeated > 0: // nobody flushed in time
		c.repeated++
		c.last = append(c.last[:0], line...)
		return len(line), l.flush(c, now)
	default:
		c.until = now.Add(window)
		return l.out.Write(line)
	}
}

// cause returns the line's cause, known or new.
func (l *Limiter) cause(level zerolog.Level, line []byte) *cause {
	l.key = appendCause(append(l.key[:0], byte(level)), line)
	c := l.causes[string(l.key)]
	switch {
	case c != nil:
		return c
	case len(l.causes) >= maxCauses:
		return &l.others
	}
	c = new(cause)
	l.causes[string(l.key)] = c
	return c
}

// flush writes the line that stands for the repeated ones and begins the next
// minute.
func (l *Limiter) flush(c *cause, now time.Time) error {
	name := "repeated"
	if c == &l.others {
		name = "others"
	}
	l.line = appendField(l.line[:0], c.last, name, c.repeated)
	c.until, c.repeated = now.Add(window), 0
	_, err := l.out.Write(l.line)
	return err
}

// appendField appends an object of JSON with one more field.
func appendField(dst, line []byte, name string, n int) []byte {
	end := len(line)
	for end > 0 && line[end-1] != '}' {
		end--
	}
	if end == 0 {
		return append(dst, line...)
	}
	dst = append(append(append(dst, line[:end-1]...), `,"`...), name...)
	dst = strconv.AppendInt(append(dst, `":`...), int64(n), 10)
	return append(dst, line[end-1:]...)
}

// Flush writes what is due at now and forgets the causes that rest. Run calls
// it.
func (l *Limiter) Flush(now time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.flushIf(now, func(c *cause) bool { return !now.Before(c.until) })
}

func (l *Limiter) flushIf(now time.Time, due func(*cause) bool) error {
	var errs []error
	for key, c := range l.causes {
		switch {
		case !due(c):
		case c.repeated > 0:
			errs = append(errs, l.flush(c, now))
		default:
			delete(l.causes, key)
		}
	}
	if c := &l.others; c.repeated > 0 && due(c) {
		errs = append(errs, l.flush(c, now))
	}
	return errors.Join(errs...)
}

// Run flushes as time goes by, until ctx ends. Close it after that.
func (l *Limiter) Run(ctx context.Context) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			_ = l.Flush(now) // there is no other place to say that the log can't be written
		}
	}
}

// Close writes what was held back. Lines that still come pass as they are.
func (l *Limiter) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	return l.flushIf(time.Now(), func(*cause) bool { return true })
}
