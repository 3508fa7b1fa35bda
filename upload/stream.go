package upload

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"capagent/internal/ledger"
)

// Pulse is after how long without a packet a file that is streamed must grow all
// the same: CloudShark gives up on a stream that is silent for 60 s
// (contracts/cloudshark.md 1.2).
const Pulse = 20 * time.Second

// tailEvery is how often a file that is still written is asked whether it grew.
const tailEvery = 200 * time.Millisecond

// stream is the upload of a file that is still written: its bytes go out as they
// come. CloudShark makes a session of them when the last has arrived, and the
// request is ended only when the capture is in the ledger with the hash of what
// went out. Whatever goes wrong before, nothing has happened, and the file is
// sent instead.
type stream struct {
	tail    *tail
	cancel  context.CancelFunc
	done    chan struct{} // the request is over
	session Session
	err     error
}

var errOutgrown = errors.New("the capture has become larger than max_size")

// Stream begins to upload the file f, which is closed in the end, as it grows: a
// pcapng file of which nothing is ever rewritten. c is what is known of it: its
// source, name, tags and comment; chosen is the session's name if the user has
// chosen one. The name that it gets is returned, which is to be recorded with the
// capture; Run then ends the stream. It never fails: what does not go well is told
// to the log, and Run sends the file.
func (s *Step) Stream(f *os.File, c ledger.Capture, chosen string) (name string) {
	c.SHA256, c.Format, c.SessionName = unique(), "pcapng", chosen
	name = sessionName(s.opts.Config.Name, s.opts.Host, &c, 1, 1)
	c.SHA256 = ""
	u := Upload{
		Name: name, Tags: c.Tags, Size: -1,
		Comments: sessionComments(s.opts.Config.Comments, s.opts.Host, &c, &ledger.Part{Number: 1, Of: 1}),
	}
	ctx, cancel := context.WithCancel(context.Background())
	st := &stream{tail: newTail(f, s.opts.Config.MaxSize.Bytes()), cancel: cancel, done: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		cancel()
		_ = f.Close()
		return name
	}
	s.streams[name] = st
	s.running.Go(func() {
		st.session, st.err = s.opts.Client.Stream(ctx, u, st.tail)
		close(st.done)
		cancel()
		s.broken(name, st)
	})
	return name
}

// unique stands in the name of a session for the hash, which isn't known yet.
func unique() string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// broken forgets a stream that has ended before its time.
func (s *Step) broken(name string, st *stream) {
	s.mu.Lock()
	open := s.streams[name] == st
	if open {
		delete(s.streams, name)
	}
	s.mu.Unlock()
	if open && !errors.Is(st.err, context.Canceled) {
		s.opts.Log.Warn().Str("class", "stream").Str("name", name).Err(st.err).
			Msg("the stream of a capture broke off; the file is uploaded when it is complete")
	}
}

// take returns the stream that goes by that name, and forgets it; nil for none.
func (s *Step) take(name string) *stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.streams[name]
	delete(s.streams, name)
	return st
}

// Close gives up the streams that are open, and waits for their end.
func (s *Step) Close() {
	s.mu.Lock()
	s.closed = true
	for _, st := range s.streams {
		st.cancel()
	}
	clear(s.streams)
	s.mu.Unlock()
	s.running.Wait()
}

// Abandon gives up a stream whose capture will not be sent.
func (s *Step) Abandon(name string) {
	if st := s.take(name); st != nil {
		st.cancel()
		<-st.done
	}
}

// finish ends the request of a stream of which the whole capture is p. sent is
// false when nothing came of it, nor can any more: the file is to be sent.
func (st *stream) finish(ctx context.Context, p *ledger.Part) (session Session, sent bool, err error) {
	defer st.cancel()
	st.tail.end(p.Size, p.SHA256)
	select {
	case <-st.done:
	case <-ctx.Done():
		st.cancel()
		<-st.done
	}
	if st.err != nil && !st.tail.ended() {
		return Session{}, false, st.err
	}
	return st.session, true, st.err
}

// streamed ends the stream of a part, if it has one that is good.
func (s *Step) streamed(ctx context.Context, c *ledger.Capture, p *ledger.Part) (done bool, err error) {
	st := s.take(p.Name)
	if st == nil {
		return false, nil
	}
	session, sent, err := st.finish(ctx, p)
	if ctx.Err() != nil && err != nil {
		return true, ctx.Err()
	}
	if !sent {
		s.opts.Log.Warn().Str("class", "stream").Int64("capture", c.ID).Str("name", p.Name).AnErr("error", err).
			Msg("the stream of a capture broke off; the file is uploaded")
		return false, nil
	}
	if err != nil {
		return true, about("stream", p.Name, err)
	}
	s.moved(p.Size)
	return true, s.finish(ctx, c, p, session, false)
}

// Stream sends body, of unknown length, as its bytes come. Close must end a
// Read of it that waits.
func (c *Client) Stream(ctx context.Context, u Upload, body io.ReadCloser) (Session, error) {
	query := fields(u).Encode()
	if len(query) > maxQuery {
		return Session{}, about("stream", u.Name, errors.New("its tags and comments are too long for a URL"))
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, c.base+apiPath+"upload?"+query, body)
	if err != nil {
		return Session{}, about("stream", u.Name, err)
	}
	req.ContentLength = -1
	if !c.noExpect.Load() {
		req.Header.Set("Expect", "100-continue")
	}
	reply, err := c.http.Do(req)
	if err != nil {
		return Session{}, about("stream", u.Name, err)
	}
	id, filename, err := accepted(reply, c.http.Scrub, c.now())
	if err != nil {
		return Session{}, about("stream", u.Name, err)
	}
	return Session{ID: id, URL: c.Link(id), Filename: filename}, nil
}

// tail reads a file while it grows, until end has told how it ends.
type tail struct {
	f      *os.File
	most   int64 // bytes; 0: any number
	hash   hash.Hash
	sent   int64
	out    atomic.Int64  // sent, for others to read
	wake   chan struct{} // closed by end
	once   sync.Once
	closed chan struct{}
	timer  *time.Timer

	mu    sync.Mutex
	size  int64 // -1: not known yet
	sum   string
	whole bool
}

func newTail(f *os.File, most int64) *tail {
	return &tail{f: f, closed: make(chan struct{}), most: most, hash: sha256.New(), wake: make(chan struct{}), timer: time.NewTimer(tailEvery), size: -1}
}

// end tells the file's size and SHA-256.
func (t *tail) end(size int64, sum string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.size, t.sum = size, sum
	close(t.wake)
}

// ended says that all was read and found right: the request was or is ended.
func (t *tail) ended() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.whole
}

// Read waits for bytes. All that it returns before the end is what the file had at
// that moment, and its end has, as long as nobody rewrites it, which the hash shows.
func (t *tail) Read(p []byte) (int, error) {
	for len(p) > 0 {
		n, err := t.f.ReadAt(p, t.sent)
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, unreadable(err)
		}
		t.mu.Lock()
		size, sum := t.size, t.sum
		t.mu.Unlock()
		if size >= 0 && (t.sent+int64(n) > size || n == 0 && t.sent < size) {
			return 0, fail(ClassChanged, fmt.Errorf("%w: it does not end at %d bytes", errChanged, size))
		}
		if t.sent += int64(n); n > 0 {
			_, _ = t.hash.Write(p[:n])
			t.out.Store(t.sent)
			if t.most > 0 && t.sent > t.most {
				return 0, fail(ClassTooLarge, errOutgrown)
			}
			return n, nil
		}
		if t.sent == size {
			if hex.EncodeToString(t.hash.Sum(nil)) != sum {
				return 0, fail(ClassChanged, fmt.Errorf("%w: its SHA-256 differs", errChanged))
			}
			t.mu.Lock()
			t.whole = true
			t.mu.Unlock()
			return 0, io.EOF
		}
		t.timer.Reset(tailEvery)
		select {
		case <-t.timer.C:
		case <-t.wake:
		case <-t.closed:
			return 0, os.ErrClosed
		}
	}
	return 0, nil
}

// Close ends a Read that waits, too. It may be called again.
func (t *tail) Close() error {
	t.once.Do(func() {
		close(t.closed)
		_ = t.f.Close() // only read
	})
	return nil
}
