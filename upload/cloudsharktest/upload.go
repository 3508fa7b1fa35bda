package cloudsharktest

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

// Bounds of an upload's parameters. CloudShark documents none but the number of
// tags; these are wider than any client needs.
const (
	maxFilename = 255
	maxTag      = 255
	maxComments = 1 << 20
	maxField    = 2 << 20
	maxFields   = 16
	maxKeylog   = 16 << 20
	bufferSize  = 256 << 10
)

var buffers = sync.Pool{New: func() any { b := make([]byte, bufferSize); return &b }}

func getBuffer() *[]byte  { return buffers.Get().(*[]byte) }
func putBuffer(b *[]byte) { buffers.Put(b) }

// params are what an upload may say besides the capture
// (contracts/cloudshark.md 1.2).
type params struct {
	filename string
	tags     []string
	comments string
	keylog   []byte
}

// upload takes a capture in (contracts/cloudshark.md 0, 1.2).
func (c *call) upload() (func(), error) {
	if !c.s.store.begin() {
		return nil, refuse(http.StatusServiceUnavailable, "Server is closing")
	}
	defer c.s.store.busy.Done()
	// Close must not wait for a client that sends nothing.
	defer context.AfterFunc(c.s.ctx, func() {
		_ = http.NewResponseController(c.w).SetReadDeadline(time.Now())
	})()
	if c.s.opts.MaxSize > 0 && c.r.Method == http.MethodPut && c.r.ContentLength > c.s.opts.MaxSize {
		return nil, c.tooLarge()
	}
	if err := c.onlyKnown(); err != nil {
		return nil, err
	}
	in, err := c.newIntake()
	if err != nil {
		return nil, err
	}
	defer in.discard()
	fields := map[string]string{}
	if c.r.Method == http.MethodPut {
		err = in.take(c.body)
	} else {
		err = c.readForm(in, fields)
	}
	if err != nil {
		return nil, err
	}
	if err := c.setParams(fields, in.name); err != nil {
		return nil, err
	}
	return c.storeOr(c.lateFault(), in)
}

// lateFault finds faults limited to a file name that only the form gave.
func (c *call) lateFault() *Fault {
	if c.fault != nil || c.filenameHint() == c.params.filename {
		return nil
	}
	return c.s.takeFault(c.method, c.params.filename, true)
}

// storeOr makes the session unless a late fault keeps it from that.
func (c *call) storeOr(f *Fault, in *intake) (func(), error) {
	if f == nil {
		return c.store(in)
	}
	c.setFault(f)
	kind := faultKinds[f.Name]
	if kind.instead == nil {
		return c.store(in)
	}
	if f.Accept {
		if _, err := c.store(in); err != nil {
			return nil, err
		}
	}
	return func() {
		if !c.wait(f.Delay) {
			c.abort()
		}
		kind.instead(c, *f)
	}, nil
}

func (c *call) tooLarge() error {
	return refuse(http.StatusRequestEntityTooLarge, "Capture file is too large: the limit is %d bytes", c.s.opts.MaxSize)
}

var uploadKeys = []string{"filename", "additional_tags", "comments"}

func (c *call) onlyKnown() error {
	for key, values := range c.query {
		if !slices.Contains(uploadKeys, key) {
			return violation(http.StatusBadRequest, "unknown parameter %q", c.scrub(key))
		}
		if len(values) > 1 {
			return violation(http.StatusBadRequest, "parameter %q is given twice", key)
		}
	}
	return nil
}

// intake is the capture on its way to the disk, hashed and judged as it goes.
type intake struct {
	c    *call
	file *os.File
	// The digests are computed apart from the agent's own code for them.
	sha1, sha256 hash.Hash
	check        *checker
	size         int64
	name         string // that the form's file part gave
}

func (c *call) newIntake() (*intake, error) {
	f, err := c.s.store.temp()
	if err != nil {
		return nil, err
	}
	return &intake{c: c, file: f, sha1: sha1.New(), sha256: sha256.New(), check: newChecker()}, nil
}

// discard removes the temporary file if no session was made of it.
func (in *intake) discard() {
	_ = in.check.finish()
	_ = in.file.Close()
	_ = removeIfThere(in.file.Name())
}

// take reads r to its end. It fills its buffer before it does anything, because
// a form's parts come in pieces of a page.
func (in *intake) take(r io.Reader) error {
	buf := getBuffer()
	defer putBuffer(buf)
	for {
		n, err := fill(r, *buf)
		p := (*buf)[:n]
		in.size += int64(n)
		if most := in.c.s.opts.MaxSize; most > 0 && in.size > most {
			return in.c.tooLarge()
		}
		_, _ = in.check.Write(p)
		_, _ = in.sha1.Write(p)
		_, _ = in.sha256.Write(p)
		if _, err := in.file.Write(p); err != nil {
			return err
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// fill is io.ReadFull, but it returns r's own error, so that an end that came
// too early is not taken for the end.
func fill(r io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		var m int
		m, err = r.Read(buf[n:])
		n += m
	}
	return n, err
}

// setParams judges what the query and the form said.
func (c *call) setParams(fields map[string]string, partName string) error {
	get := func(name string) (string, bool) {
		if v, ok := fields[name]; ok {
			return v, true
		}
		return c.query.Get(name), c.query.Has(name)
	}
	for _, name := range uploadKeys {
		v, _ := get(name)
		if !utf8.ValidString(v) || strings.ContainsRune(v, 0) {
			return violation(http.StatusBadRequest, "%s is not UTF-8 text", name)
		}
		if c.scrub(v) != v {
			return violation(http.StatusBadRequest, "the token stands in %s", name)
		}
	}
	name, given := get("filename")
	switch {
	case given && strings.TrimSpace(name) == "":
		return violation(http.StatusBadRequest, "filename is empty")
	case !given && partName != "":
		name = partName
	case !given:
		// Named "after the User-Agent and a unique timestamp" (1.2).
		agent, _, _ := strings.Cut(c.r.UserAgent(), "/")
		name = fmt.Sprintf("%s-%s.pcap", path.Base(agent), c.s.opts.Now().UTC().Format("20060102T150405.000000000Z"))
	}
	if len(name) > maxFilename || strings.ContainsFunc(name, unicode.IsControl) || !utf8.ValidString(name) {
		return violation(http.StatusBadRequest, "filename has control characters, is not UTF-8, or is longer than %d bytes", maxFilename)
	}
	c.params.filename = name
	c.params.comments, _ = get("comments")
	if len(c.params.comments) > maxComments {
		return violation(http.StatusBadRequest, "comments are longer than %d bytes", maxComments)
	}
	text, _ := get("additional_tags")
	return c.setTags(text)
}

func (c *call) setTags(text string) error {
	all := slices.Clone(c.token.DefaultTags)
	for tag := range strings.SplitSeq(text, ",") {
		tag = strings.TrimSpace(tag)
		if len(tag) > maxTag || strings.ContainsFunc(tag, unicode.IsControl) {
			return violation(http.StatusBadRequest, "a tag has control characters or is longer than %d bytes", maxTag)
		}
		if tag != "" && !slices.Contains(all, tag) {
			all = append(all, tag)
		}
	}
	if len(all) > c.s.opts.MaxTags {
		return violation(http.StatusBadRequest, "Too many tags: %d, the limit is %d", len(all), c.s.opts.MaxTags)
	}
	c.params.tags = all
	return nil
}

// store makes a session of what came in.
func (c *call) store(in *intake) (func(), error) {
	err := in.check.finish()
	cut := errors.Is(err, errCut)
	if err != nil && (!cut || !c.s.opts.AllowCut) {
		return nil, violation(http.StatusBadRequest, "File is not a complete capture file: %v", err)
	}
	if err := in.file.Close(); err != nil {
		return nil, err
	}
	facts := in.check.facts
	session := Session{
		Filename: c.params.filename, Tags: c.params.tags, Comments: c.params.comments,
		Size: in.size, SHA1: hex.EncodeToString(in.sha1.Sum(nil)), SHA256: hex.EncodeToString(in.sha256.Sum(nil)),
		Format: string(facts.format), Gzip: facts.gzip, Cut: cut,
		Packets: facts.packets, PacketBytes: facts.bytes, Encapsulation: facts.encapsulation,
		First: facts.first.UTC(), Last: facts.last.UTC(),
		Created: c.s.opts.Now().UTC(), Method: c.r.Method, UserAgent: c.r.UserAgent(),
	}
	if err := c.s.store.commit(&session, in.file.Name(), c.params.keylog, c.s.opts.MaxSessions, c.s.opts.MaxBytes); err != nil {
		return nil, err
	}
	c.setSession(session.ID)
	return func() {
		c.send(http.StatusOK, map[string]string{"filename": session.Filename, "id": session.ID})
	}, nil
}
