package cloudsharktest

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"os"
	"slices"
)

// readForm takes a multipart body to its very end: a form whose end is missing
// was cut off.
func (c *call) readForm(in *intake, fields map[string]string) error {
	kind, attrs, err := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/form-data" || attrs["boundary"] == "" {
		return violation(http.StatusBadRequest, "a POST must be multipart/form-data with the capture in file")
	}
	end := &tail{r: c.body}
	src := bufio.NewReaderSize(end, bufferSize)
	form := multipart.NewReader(src, attrs["boundary"])
	var seen []string
	for {
		part, err := form.NextRawPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return c.formError(err)
		}
		name := part.FormName()
		if len(seen) >= maxFields || slices.Contains(seen, name) {
			return violation(http.StatusBadRequest, "field %q is given twice, or there are too many", c.scrub(name))
		}
		seen = append(seen, name)
		if err := c.readPart(in, fields, name, part); err != nil {
			return c.formError(err)
		}
	}
	if _, err := io.Copy(io.Discard, src); err != nil {
		return err
	}
	if !bytes.Contains(end.last, []byte("--"+attrs["boundary"]+"--")) {
		return c.formError(io.ErrUnexpectedEOF)
	}
	if !slices.Contains(seen, "file") {
		return violation(http.StatusBadRequest, "file is missing")
	}
	return nil
}

// tail remembers how a stream ends: package multipart takes a form that stops
// right after a boundary for a whole one.
type tail struct {
	r    io.Reader
	last []byte
}

func (t *tail) Read(p []byte) (int, error) {
	const most = 256 // a boundary has at most 70 bytes (RFC 2046 5.1.1)
	n, err := t.r.Read(p)
	t.last = append(t.last, p[max(0, n-most):n]...)
	t.last = slices.Delete(t.last, 0, max(0, len(t.last)-most))
	return n, err
}

// formError tells a broken form from a broken connection.
func (c *call) formError(err error) error {
	var e *apiError
	if errors.As(err, &e) || errors.Is(err, errClientGone) || errors.As(err, new(*os.PathError)) {
		return err
	}
	return violation(http.StatusBadRequest, "the form is broken or ends too early")
}

func (c *call) readPart(in *intake, fields map[string]string, name string, part *multipart.Part) error {
	switch name {
	case "file":
		in.name = part.FileName()
		if in.name == "" {
			return violation(http.StatusBadRequest, "file has no file name, so it is a text field and not a file")
		}
		return in.take(part)
	case "keylog":
		data, err := io.ReadAll(io.LimitReader(part, maxKeylog+1))
		if err == nil && len(data) > maxKeylog {
			err = refuse(http.StatusRequestEntityTooLarge, "keylog is too large")
		}
		c.params.keylog = data
		return err
	case "url":
		return refuse(http.StatusBadRequest, "uploading by url is not offered here")
	case "filename", "additional_tags", "comments":
		data, err := io.ReadAll(io.LimitReader(part, maxField+1))
		if err != nil {
			return err
		}
		if len(data) > maxField {
			return violation(http.StatusBadRequest, "field %q is too long", name)
		}
		if q, ok := c.query[name]; ok && q[0] != string(data) {
			return violation(http.StatusBadRequest, "the form and the query differ in %q", name)
		}
		fields[name] = string(data)
		return nil
	default:
		return violation(http.StatusBadRequest, "unknown field %q", c.scrub(name))
	}
}
