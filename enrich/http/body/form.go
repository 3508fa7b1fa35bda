package body

import (
	"bytes"

	"capagent/enrich/indicator"
)

const (
	formBuffer  = 8 << 10 // the header of a part, or a piece of its content
	maxBoundary = 256     // RFC 2046, 5.1.1 has 70
	formMemory  = formBuffer + 1<<10
)

// form finds the files in multipart/form-data (RFC 7578) and hashes each. Each
// counts with the frame in which it ends.
type form struct {
	set   *indicator.Set
	role  indicator.Role
	delim []byte // "\r\n--" and the boundary
	held  []byte // what was not understood yet
	sums  *sums
	state formState
}

type formState uint8

const (
	formSkip   formState = iota // before the first part, or in one that is no file
	formFile                    // in the content of a file
	formHeader                  // behind a boundary
	formOver
)

// newForm returns nil when it is not a form with a boundary.
func newForm(set *indicator.Set, role indicator.Role, contentType []byte) *form {
	const kind = "multipart/form-data"
	if len(contentType) < len(kind) || !bytes.EqualFold(contentType[:len(kind)], []byte(kind)) {
		return nil
	}
	boundary := parameter(contentType[len(kind):], "boundary")
	if len(boundary) == 0 || len(boundary) > maxBoundary || !set.Take(formMemory, LimitForms) {
		return nil
	}
	f := &form{set: set, role: role, sums: newSums(), held: make([]byte, 0, formBuffer)}
	f.delim = append(append(f.delim, "\r\n--"...), boundary...)
	f.held = append(f.held, "\r\n"...) // the first boundary may begin the body
	return f
}

// parameter returns the value of a header's parameter, without quotes.
func parameter(b []byte, name string) []byte {
	for len(b) > 0 {
		i := bytes.IndexByte(b, ';')
		if i < 0 {
			return nil
		}
		b = bytes.TrimLeft(b[i+1:], " \t")
		if len(b) <= len(name) || b[len(name)] != '=' || !bytes.EqualFold(b[:len(name)], []byte(name)) {
			continue
		}
		v := b[len(name)+1:]
		if len(v) > 0 && v[0] == '"' {
			v, _, _ = bytes.Cut(v[1:], []byte{'"'})
			return v
		}
		v, _, _ = bytes.Cut(v, []byte{';'})
		return bytes.TrimSpace(v)
	}
	return nil
}

func (f *form) close() { f.set.Give(formMemory) }

func (f *form) write(p []byte, at indicator.At) {
	for len(p) > 0 && f.state != formOver {
		n := copy(f.held[len(f.held):cap(f.held)], p)
		f.held, p = f.held[:len(f.held)+n], p[n:]
		rest := f.held
		for {
			used, again := f.step(rest, at)
			rest = rest[used:]
			if !again {
				break
			}
		}
		if len(rest) == cap(f.held) {
			f.set.Reached(LimitFormHeader)
			f.state = formOver
			return
		}
		f.held = f.held[:copy(f.held, rest)]
	}
}

// step understands the beginning of b. It says how much that was, and whether
// there may be more to understand in what is left.
func (f *form) step(b []byte, at indicator.At) (used int, again bool) {
	switch f.state {
	case formSkip, formFile:
		i := bytes.Index(b, f.delim)
		if i >= 0 {
			f.content(b[:i])
			f.sums.report(f.set, f.role, at)
			f.state = formHeader
			return i + len(f.delim), true
		}
		i = max(0, len(b)-len(f.delim)+1)
		f.content(b[:i])
		return i, false
	case formHeader:
		if len(b) < 2 {
			return 0, false
		}
		if b[0] == '-' && b[1] == '-' {
			f.state = formOver
			return len(b), false
		}
		i := bytes.Index(b, []byte("\r\n\r\n"))
		if i < 0 {
			return 0, false
		}
		f.state = formSkip
		if isFile(b[:i]) {
			f.state = formFile
		}
		return i + 4, true
	}
	return len(b), false
}

func (f *form) content(b []byte) {
	if f.state == formFile {
		f.sums.write(b)
	}
}

// isFile says whether a part's header names a file.
func isFile(head []byte) bool {
	for len(head) > 0 {
		var line []byte
		line, head, _ = bytes.Cut(head, []byte("\r\n"))
		const name = "content-disposition:"
		if len(line) >= len(name) && bytes.EqualFold(line[:len(name)], []byte(name)) {
			return parameter(line, "filename") != nil || parameter(line, "filename*") != nil
		}
	}
	return false
}
