package upload

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"os"

	"capagent/internal/safefile"
)

// maxKeylog bounds a TLS key log in bytes: about 100,000 sessions.
const maxKeylog = 32 << 20

// post builds a multipart request of known length: the fields first, then the
// key log, the file last.
func (c *Client) post(ctx context.Context, u Upload) (*http.Request, error) {
	var frame bytes.Buffer
	form := multipart.NewWriter(&frame)
	values := fields(u)
	for _, key := range []string{"filename", "additional_tags", "comments"} {
		if values.Has(key) {
			if err := form.WriteField(key, values.Get(key)); err != nil {
				return nil, err
			}
		}
	}
	var pieces []io.Reader
	var files closers
	total := int64(0)
	// add puts the frame written so far, then size bytes of r, into the body.
	add := func(r io.Reader, size int64) {
		text := bytes.Clone(frame.Bytes())
		frame.Reset()
		pieces = append(pieces, bytes.NewReader(text))
		total += int64(len(text)) + size
		if r != nil {
			pieces = append(pieces, r)
		}
	}
	if u.Keylog != "" {
		keylog, size, err := openKeylog(u.Keylog)
		if err != nil {
			return nil, err
		}
		files = append(files, keylog)
		if _, err := form.CreateFormFile("keylog", "keylog.txt"); err != nil {
			return nil, errors.Join(err, files.Close())
		}
		add(&exactly{r: keylog, left: size}, size)
	}
	body, err := u.Body()
	if err != nil {
		return nil, errors.Join(err, files.Close())
	}
	files = append(files, body)
	if _, err := form.CreateFormFile("file", u.Name); err != nil {
		return nil, errors.Join(err, files.Close())
	}
	add(body, u.Size)
	if err := form.Close(); err != nil {
		return nil, errors.Join(err, files.Close())
	}
	add(nil, 0)

	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+apiPath+"upload",
		struct {
			io.Reader
			io.Closer
		}{io.MultiReader(pieces...), files})
	if err != nil {
		return nil, errors.Join(err, files.Close())
	}
	req.ContentLength = total
	req.Header.Set("Content-Type", form.FormDataContentType())
	return req, nil
}

func openKeylog(path string) (*os.File, int64, error) {
	f, info, err := safefile.Open(path)
	if err != nil {
		return nil, 0, fail(ClassUnreadable, fmt.Errorf("key log: %w", err))
	}
	if info.Size() > maxKeylog {
		_ = f.Close()
		return nil, 0, fail(ClassUnreadable, fmt.Errorf("key log %q is larger than %d bytes", path, maxKeylog))
	}
	return f, info.Size(), nil
}

// exactly gives the first bytes of a file that may grow meanwhile, as a key log
// does, and fails when it shrinks.
type exactly struct {
	r    io.Reader
	left int64
}

func (e *exactly) Read(p []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	n, err := e.r.Read(p[:min(int64(len(p)), e.left)])
	e.left -= int64(n)
	if errors.Is(err, io.EOF) && e.left > 0 {
		err = fail(ClassChanged, errors.New("the key log became shorter while it was sent"))
	}
	return n, err
}

type closers []io.Closer

func (c closers) Close() error {
	var all []error
	for _, one := range c {
		all = append(all, one.Close())
	}
	return errors.Join(all...)
}
