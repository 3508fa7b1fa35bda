package secret

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// MinRedact is the shortest secret, in bytes, that a Redactor masks. Masking a
// shorter one would mangle ordinary text and tell by its gaps what it is.
const MinRedact = 8

// Redactor replaces known secrets in text by the mask: the second line of
// defence behind the Secret type, for text that others made (an error of a
// library, a server's reply). It knows each secret as it is (letters of either
// case), URL-escaped, in base64 also inside of longer base64, and as JSON and Go
// quote it. What it cannot know: other encodings, hashes and pieces.
//
// It may be used by many goroutines; the zero value masks nothing.
type Redactor struct {
	mu    sync.RWMutex
	forms [256][]string // by first byte, lower case; longest first
}

// NewRedactor returns a Redactor for the given secrets.
func NewRedactor(secrets ...Secret) *Redactor {
	r := new(Redactor)
	r.Add(secrets...)
	return r
}

// Add makes r mask these secrets too. Secrets that are unset or shorter than
// MinRedact are left out.
func (r *Redactor) Add(secrets ...Secret) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range secrets {
		value := s.Reveal()
		if len(value) < MinRedact {
			continue
		}
		for _, form := range forms(value) {
			form = lower(form)
			list := &r.forms[form[0]]
			if slices.Contains(*list, form) {
				continue
			}
			*list = append(*list, form)
			slices.SortFunc(*list, func(a, b string) int { return len(b) - len(a) })
		}
	}
}

// forms lists the ways in which a secret may stand in text.
func forms(value string) []string {
	out := []string{value, url.QueryEscape(value), url.PathEscape(value)}
	quoted := strconv.Quote(value)
	out = append(out, quoted[1:len(quoted)-1])
	if js, err := json.Marshal(value); err == nil {
		out = append(out, string(js[1:len(js)-1]))
	}
	for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		whole := enc.EncodeToString([]byte(value))
		out = append(out, whole, whole+strings.Repeat("=", (4-len(whole)%4)%4))
		// Inside of longer base64 ("user:token") the secret begins at one of
		// three places in a group of three bytes. The characters that depend
		// on the secret alone are those between the first and last group.
		for lead := range 3 {
			text := enc.EncodeToString([]byte(strings.Repeat("\x00", lead) + value))
			first := []int{0, 2, 3}[lead]
			last := (lead + len(value)) * 8 / 6
			out = append(out, text[first:last])
		}
	}
	return out
}

// lower folds ASCII letters and leaves every byte in its place, also where the
// text is not UTF-8.
func lower(s string) string {
	b := []byte(s)
	for i := range b {
		b[i] = lowerByte(b[i])
	}
	return string(b)
}

func lowerByte(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// String returns s with every known secret masked.
func (r *Redactor) String(s string) string {
	out, _ := r.mask([]byte(s), true)
	return string(out)
}

// mask returns the text with secrets replaced, and what must be kept back
// because it may be the beginning of a secret; nothing is when final is set.
func (r *Redactor) mask(text []byte, final bool) (out, rest []byte) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	from := 0
	for i := 0; i < len(text); {
		n, begun := r.match(text[i:])
		switch {
		case begun && !final:
			// A longer form may still come, even where a shorter one matched.
			return append(out, text[from:i]...), text[i:]
		case n > 0:
			out = append(append(out, text[from:i]...), Mask...)
			i += n
			from = i
		default:
			i++
		}
	}
	return append(out, text[from:]...), nil
}

// match returns the length of the longest form that text begins with, and
// whether text as a whole is the beginning of a form longer than it.
func (r *Redactor) match(text []byte) (n int, begun bool) {
	for _, form := range r.forms[lowerByte(text[0])] {
		i := 0
		for i < len(form) && i < len(text) && lowerByte(text[i]) == form[i] {
			i++
		}
		switch {
		case i == len(form):
			return i, begun
		case i == len(text):
			begun = true
		}
	}
	return 0, begun
}

// Writer masks what is written through it. Text that may be the beginning of a
// secret is held back, at most the length of the longest form, until the next
// Write or Flush decides. It may be used by many goroutines; whole Writes are
// kept in order.
type Writer struct {
	r    *Redactor
	mu   sync.Mutex
	w    io.Writer
	held []byte
}

// Writer returns a writer that masks on the way to w. Call Flush at the end.
func (r *Redactor) Writer(w io.Writer) *Writer { return &Writer{r: r, w: w} }

// Write reports len(p) when the masked text was written or held back; on an
// error the text is gone, as with any writer that buffers.
func (w *Writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	out, rest := w.r.mask(append(w.held, p...), false)
	w.held = slices.Clone(rest)
	if len(out) > 0 {
		if _, err := w.w.Write(out); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// Flush writes what was held back. It does not flush or close the writer below.
func (w *Writer) Flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	out, _ := w.r.mask(w.held, true)
	w.held = nil
	if len(out) == 0 {
		return nil
	}
	_, err := w.w.Write(out)
	return err
}
