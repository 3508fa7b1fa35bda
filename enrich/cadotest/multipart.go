package cadotest

import (
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"

	"capagent/internal/standin"
)

func (s *Store) create(c *standin.Call, key string) {
	id := standin.Random(16)
	s.mu.Lock()
	full := len(s.uploads) >= maxMultis
	if !full {
		s.uploads[id] = &multipart{key: key, sha256: c.R.Header.Get("X-Amz-Meta-Sha256"), kind: c.R.Header.Get("Content-Type"), parts: map[int]*stored{}}
	}
	s.mu.Unlock()
	if full {
		s.refuse(c, http.StatusServiceUnavailable, "SlowDown")
		return
	}
	s.xml(c, struct {
		XMLName  xml.Name `xml:"InitiateMultipartUploadResult"`
		UploadID string   `xml:"UploadId"`
	}{UploadID: id})
}

// part is one in S3's lists.
type part struct {
	PartNumber     int
	Size           int64 `xml:",omitempty"`
	ETag           string
	ChecksumSHA256 string
}

func tag(sum string) string { return `"` + sum[:16] + `"` }

func (s *Store) multipart(c *standin.Call, key, id, number string) {
	s.mu.Lock()
	u := s.uploads[id]
	s.mu.Unlock()
	if u == nil || u.key != key {
		s.refuse(c, http.StatusNotFound, "NoSuchUpload")
		return
	}
	switch c.R.Method {
	case http.MethodPut:
		s.putPart(c, u, number)
	case http.MethodGet:
		s.listParts(c, u)
	case http.MethodPost:
		s.complete(c, u, id)
	case http.MethodDelete:
		s.mu.Lock()
		s.forget(id)
		s.mu.Unlock()
		c.Send(http.StatusNoContent, "application/xml", nil)
	default:
		s.refuse(c, http.StatusNotImplemented, "NotImplemented")
	}
}

// forget drops an upload with its parts. s.mu is held.
func (s *Store) forget(id string) {
	if u := s.uploads[id]; u != nil {
		for _, p := range u.parts {
			s.drop(p)
		}
	}
	delete(s.uploads, id)
}

func (s *Store) putPart(c *standin.Call, u *multipart, number string) {
	n, err := strconv.Atoi(number)
	if err != nil || n < 1 || n > maxPartNo {
		s.refuse(c, http.StatusBadRequest, "InvalidArgument")
		return
	}
	o, code := s.receive(c)
	if code != "" {
		s.failed(c, code)
		return
	}
	o.sha256 = c.R.Header.Get("X-Amz-Checksum-Sha256")
	s.mu.Lock()
	if old := u.parts[n]; old != nil {
		s.drop(old)
	}
	u.parts[n] = o
	s.mu.Unlock()
	c.W.Header().Set("ETag", tag(o.sha256))
	c.W.Header().Set("X-Amz-Checksum-Sha256", o.sha256)
	c.Send(http.StatusOK, "application/xml", nil)
}

const partsPerPage = 1000

func (s *Store) listParts(c *standin.Call, u *multipart) {
	marker, _ := strconv.Atoi(c.R.URL.Query().Get("part-number-marker"))
	out := struct {
		XMLName              xml.Name `xml:"ListPartsResult"`
		Part                 []part
		IsTruncated          bool
		NextPartNumberMarker int
	}{}
	s.mu.Lock()
	for n := max(marker, 0) + 1; n <= maxPartNo; n++ {
		p := u.parts[n]
		if p == nil {
			continue
		}
		if len(out.Part) == partsPerPage {
			out.IsTruncated = true
			break
		}
		out.Part = append(out.Part, part{n, p.size, tag(p.sha256), p.sha256})
		out.NextPartNumberMarker = n
	}
	s.mu.Unlock()
	s.xml(c, out)
}

func (s *Store) complete(c *standin.Call, u *multipart, id string) {
	var in struct {
		Part []part
	}
	if err := xml.NewDecoder(io.LimitReader(c.R.Body, maxXML)).Decode(&in); err != nil || len(in.Part) == 0 || len(in.Part) > maxPartNo {
		s.refuse(c, http.StatusBadRequest, "MalformedXML")
		return
	}
	o, code := s.join(u, in.Part)
	switch {
	case code != "":
		s.failed(c, code)
		return
	case !s.add(c, u.key, o):
		s.refuse(c, http.StatusPreconditionFailed, "PreconditionFailed")
		return
	}
	s.mu.Lock()
	s.forget(id)
	s.mu.Unlock()
	s.xml(c, struct {
		XMLName xml.Name `xml:"CompleteMultipartUploadResult"`
		ETag    string
	}{ETag: fmt.Sprintf(`"%s-%d"`, standin.Random(16), len(in.Part))})
}

// join makes one file of parts.
func (s *Store) join(u *multipart, parts []part) (*stored, string) {
	f, err := os.CreateTemp(s.opts.Dir, "object-*")
	if err != nil {
		return nil, "InternalError"
	}
	defer func() { _ = f.Close() }()
	o := &stored{path: f.Name(), sha256: u.sha256, kind: u.kind, at: s.opts.Now()}
	for i, p := range parts {
		s.mu.Lock()
		have := u.parts[p.PartNumber]
		s.mu.Unlock()
		if have == nil || i > 0 && p.PartNumber <= parts[i-1].PartNumber || p.ETag != tag(have.sha256) {
			_ = os.Remove(o.path)
			return nil, "InvalidPart"
		}
		n, err := appendFile(f, have.path)
		if o.size += n; err != nil {
			_ = os.Remove(o.path)
			return nil, "InternalError"
		}
	}
	s.mu.Lock()
	s.used += o.size
	s.mu.Unlock()
	return o, ""
}

func appendFile(to io.Writer, path string) (int64, error) {
	from, err := os.Open(filepath.Clean(path))
	if err != nil {
		return 0, err
	}
	defer func() { _ = from.Close() }()
	return io.Copy(to, from)
}
