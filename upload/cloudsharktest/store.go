package cloudsharktest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"capagent/internal/lazy"
)

// Session is what became of one uploaded capture.
type Session struct {
	Seq           int64     `json:"seq"` // order of arrival, from 1
	ID            string    `json:"id"`  // 12 lower-case hexadecimal digits
	Filename      string    `json:"filename"`
	Tags          []string  `json:"tags"`
	Comments      string    `json:"comments"`
	Size          int64     `json:"size"` // bytes as they were sent
	SHA1          string    `json:"sha1"`
	SHA256        string    `json:"sha256"`
	Format        string    `json:"format"` // "pcap" or "pcapng"
	Gzip          bool      `json:"gzip"`
	Cut           bool      `json:"cut"` // ends inside a packet, see Options.AllowCut
	Packets       int64     `json:"packets"`
	PacketBytes   int64     `json:"packet_bytes"` // captured bytes of all packets
	First         time.Time `json:"first"`        // zero without a packet
	Last          time.Time `json:"last"`
	Encapsulation string    `json:"encapsulation"`
	Created       time.Time `json:"created"`
	Method        string    `json:"method"` // "PUT" or "POST"
	UserAgent     string    `json:"user_agent"`
	KeylogSize    int64     `json:"keylog_size"` // bytes of the TLS key log, 0 without one
	// Annotations are ordered by frame.
	Annotations []Annotation `json:"annotations,omitempty"`
}

// Annotation is a text on one packet of a session.
type Annotation struct {
	Frame int64  `json:"frame"` // from 1
	Text  string `json:"text"`
}

// store keeps sessions in a directory: <id>.json and <id>.pcap (or .pcapng,
// with .gz). The rename of the capture is the moment at which a session exists:
// a record without a capture is a leftover and is removed by openStore. One
// server may use a directory at a time.
type store struct {
	dir  string
	mu   sync.RWMutex
	byID map[string]*Session
	list []*Session // by Seq
	seq  int64
	size int64 // bytes of all captures
	log  zerolog.Logger

	busy   sync.WaitGroup // uploads that write
	closed bool           // no more may begin
}

const partSuffix = ".part"

var (
	idPattern   = lazy.Regexp(`^[0-9a-f]{12}$`)
	ownLeftover = lazy.Regexp(`^([0-9a-f]{12}\.(json|keylog)|upload-[0-9]+)\.part$`)
)

func openStore(dir string, log zerolog.Logger) (*store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	st := &store{dir: dir, byID: map[string]*Session{}, log: log}
	for _, e := range entries {
		name := e.Name()
		if ownLeftover().MatchString(name) {
			err = errors.Join(err, os.Remove(filepath.Join(dir, name)))
			continue
		}
		if id, ok := strings.CutSuffix(name, ".json"); ok && idPattern().MatchString(id) {
			err = errors.Join(err, st.load(id))
		}
	}
	slices.SortFunc(st.list, func(a, b *Session) int { return int(a.Seq - b.Seq) })
	return st, err
}

// load takes one record in. A record that cannot be read is left where it is
// and said in the log: it must not keep the others from being seen.
func (st *store) load(id string) error {
	path := filepath.Join(st.dir, id+".json")
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var s Session
	if err := json.Unmarshal(data, &s); err != nil || s.ID != id {
		st.log.Warn().Str("file", path).AnErr("error", err).Msg("not a session's record, left alone")
		return nil
	}
	if _, err := os.Lstat(st.path(&s)); errors.Is(err, fs.ErrNotExist) {
		return errors.Join(os.Remove(path), removeIfThere(st.keylogPath(id)))
	} else if err != nil {
		return err
	}
	st.add(&s)
	return nil
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (st *store) add(s *Session) {
	st.byID[s.ID] = s
	st.list = append(st.list, s)
	st.size += s.Size
	st.seq = max(st.seq, s.Seq)
}

func (st *store) path(s *Session) string {
	name := s.ID + "." + s.Format
	if s.Gzip {
		name += ".gz"
	}
	return filepath.Join(st.dir, name)
}

func (st *store) keylogPath(id string) string { return filepath.Join(st.dir, id+".keylog") }

// commit makes a session of the finished temporary file at part. It sets Seq
// and ID. The quota is judged here, where no other upload can come between.
func (st *store) commit(s *Session, part string, keylog []byte, maxSessions int, maxBytes int64) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if maxSessions > 0 && len(st.list) >= maxSessions {
		return refuse(403, "Upload quota reached: %d captures are stored", len(st.list))
	}
	if maxBytes > 0 && st.size+s.Size > maxBytes {
		return refuse(403, "Storage quota reached: %d of %d bytes are used", st.size, maxBytes)
	}
	for s.ID = randomHex(12); st.byID[s.ID] != nil; s.ID = randomHex(12) {
	}
	s.Seq = st.seq + 1
	s.KeylogSize = int64(len(keylog))
	if keylog != nil {
		if err := st.write(st.keylogPath(s.ID), keylog); err != nil {
			return err
		}
	}
	if err := st.writeRecord(s); err != nil {
		return err
	}
	if err := os.Rename(part, st.path(s)); err != nil {
		return err
	}
	st.add(s)
	return nil
}

func (st *store) writeRecord(s *Session) error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return st.write(filepath.Join(st.dir, s.ID+".json"), data)
}

func (st *store) write(path string, data []byte) error {
	if err := os.WriteFile(path+partSuffix, data, 0o600); err != nil {
		return err
	}
	return os.Rename(path+partSuffix, path)
}

// temp opens a new temporary file for an upload. Its name is never one that a
// client chose.
func (st *store) temp() (*os.File, error) {
	return os.CreateTemp(st.dir, "upload-*"+partSuffix)
}

// begin counts an upload in, unless the store is closed. Each that was counted
// must call busy.Done.
func (st *store) begin() bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	if !st.closed {
		st.busy.Add(1)
	}
	return !st.closed
}

// close lets no upload begin any more and waits for those that did.
func (st *store) close() {
	st.mu.Lock()
	st.closed = true
	st.mu.Unlock()
	st.busy.Wait()
}

func (st *store) all() []Session {
	st.mu.RLock()
	defer st.mu.RUnlock()
	out := make([]Session, len(st.list))
	for i, s := range st.list {
		out[i] = s.clone()
	}
	return out
}

// clone keeps callers from sharing slices with the store.
func (s *Session) clone() Session {
	c := *s
	c.Tags = slices.Clone(s.Tags)
	c.Annotations = slices.Clone(s.Annotations)
	return c
}

func (st *store) get(id string) (Session, bool) {
	st.mu.RLock()
	defer st.mu.RUnlock()
	s := st.byID[id]
	if s == nil {
		return Session{}, false
	}
	return s.clone(), true
}

// find returns up to limit sessions that match, newest first, after passing
// over skip of them, and how many match in all. A limit of 0 is none.
func (st *store) find(match func(*Session) bool, skip, limit int) ([]Session, int) {
	st.mu.RLock()
	defer st.mu.RUnlock()
	var out []Session
	total := 0
	for _, s := range slices.Backward(st.list) {
		if !match(s) {
			continue
		}
		if total >= skip && (limit == 0 || len(out) < limit) {
			out = append(out, s.clone())
		}
		total++
	}
	return out, total
}

func (st *store) open(id string) (*os.File, error) {
	s, ok := st.get(id)
	if !ok {
		return nil, fmt.Errorf("open session %q: %w", id, fs.ErrNotExist)
	}
	return os.Open(st.path(&s))
}

func (st *store) keylog(id string) ([]byte, error) {
	s, ok := st.get(id)
	if !ok {
		return nil, fmt.Errorf("open session %q: %w", id, fs.ErrNotExist)
	}
	if s.KeylogSize == 0 {
		return nil, nil
	}
	f, err := os.Open(st.keylogPath(id))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxKeylog))
}

// remove deletes a session. The capture goes first, so that a crash in between
// leaves a record that openStore clears.
func (st *store) remove(id string) (bool, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	s := st.byID[id]
	if s == nil {
		return false, nil
	}
	delete(st.byID, id)
	st.list = slices.DeleteFunc(st.list, func(o *Session) bool { return o == s })
	st.size -= s.Size
	return true, errors.Join(removeIfThere(st.path(s)), removeIfThere(st.keylogPath(id)),
		removeIfThere(filepath.Join(st.dir, id+".json")))
}

// annotate sets the text of one frame, or takes it away when text is "", and
// returns all annotations.
func (st *store) annotate(id string, frame int64, text string) ([]Annotation, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	s := st.byID[id]
	if s == nil {
		return nil, errNoCapture()
	}
	notes := slices.DeleteFunc(slices.Clone(s.Annotations), func(a Annotation) bool { return a.Frame == frame })
	if text != "" {
		notes = append(notes, Annotation{Frame: frame, Text: text})
		slices.SortFunc(notes, func(a, b Annotation) int { return int(a.Frame - b.Frame) })
	}
	changed := *s
	changed.Annotations = notes
	if err := st.writeRecord(&changed); err != nil {
		return nil, err
	}
	s.Annotations = notes
	return slices.Clone(notes), nil
}

// count returns how many sessions there are, and their bytes.
func (st *store) count() (int, int64) {
	st.mu.RLock()
	defer st.mu.RUnlock()
	return len(st.list), st.size
}
