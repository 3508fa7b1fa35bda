package ftp

import (
	"crypto/md5" //nolint:gosec // a name of the file that others know it by, not a protection
	"crypto/sha1"
	"crypto/sha256"
	"hash"

	"capagent/enrich/indicator"
	"capagent/enrich/stream"
)

// digests is about what three of them take.
const digests = 512

// body follows a data connection.
type body struct {
	set    *indicator.Set
	t      *Transfer
	taken  bool
	sender stream.Side
	size   int64
	md5    hash.Hash
	sha1   hash.Hash
	sha256 hash.Hash
}

var _ stream.Parser = (*body)(nil)

// Data returns the parser of the data connection that t announced. It reports the
// file when its sender has ended it, and nothing is missing. An empty one says
// nothing.
func Data(set *indicator.Set, t *Transfer) stream.Parser {
	return &body{set: set, t: t}
}

// Data implements stream.Parser.
func (d *body) Data(from stream.Side, b []byte, _ indicator.At) stream.Verdict {
	if len(b) == 0 {
		return stream.More
	}
	if d.t.kind == listing || d.size > 0 && from != d.sender {
		return stream.Done
	}
	if !d.taken {
		if !d.set.Take(digests, LimitMemory) {
			return stream.Done
		}
		d.taken, d.sender = true, from
		d.md5, d.sha1, d.sha256 = md5.New(), sha1.New(), sha256.New()
	}
	d.size += int64(len(b))
	d.md5.Write(b)
	d.sha1.Write(b)
	d.sha256.Write(b)
	return stream.More
}

// Gap implements stream.Parser.
func (d *body) Gap(from stream.Side, _ int64, _ indicator.At) stream.Verdict {
	if d.size > 0 && from != d.sender {
		return stream.More // of a side that says nothing
	}
	return stream.Done
}

// End implements stream.Parser.
func (d *body) End(from stream.Side, at indicator.At) {
	if d.size == 0 || from != d.sender {
		return
	}
	role := indicator.FTPDownload
	switch d.t.kind {
	case download:
	case upload:
		role = indicator.FTPUpload
	default:
		return
	}
	d.set.File([md5.Size]byte(d.md5.Sum(nil)), [sha1.Size]byte(d.sha1.Sum(nil)), [sha256.Size]byte(d.sha256.Sum(nil)), role, at)
}

// Close implements stream.Parser.
func (d *body) Close(indicator.At) {
	if d.taken {
		d.set.Give(digests)
		d.taken, d.size = false, 0
	}
}
