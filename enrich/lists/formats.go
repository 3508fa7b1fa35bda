package lists

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"capagent/enrich/indicator"
	"capagent/enrich/verdict"
)

// Bounds of files.
const (
	MaxFile    = 1 << 30 // bytes, also after unpacking
	maxLine    = 64 << 10
	maxElement = 16 << 20 // bytes of one object of a JSON list
)

// bounding reads at most left bytes, and fails beyond.
type bounding struct {
	r    io.Reader
	left int64
	err  error
}

func (b *bounding) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, b.err
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.r.Read(p)
	b.left -= int64(n)
	return n, err
}

// parse reads a list of any format, which its content tells, and returns its name.
func (b *builder) parse(file io.Reader) (format string, err error) {
	tooLarge := fmt.Errorf("%w: more than %d MiB", errTooLarge, MaxFile>>20)
	r := bufio.NewReaderSize(&bounding{file, MaxFile, tooLarge}, maxLine)
	if magic, _ := r.Peek(2); string(magic) == "\x1f\x8b" {
		z, err := gzip.NewReader(r)
		if err != nil {
			return "gzip", err
		}
		r = bufio.NewReaderSize(&bounding{z, MaxFile, tooLarge}, maxLine)
	}
	if bom, _ := r.Peek(3); string(bom) == "\xef\xbb\xbf" {
		_, _ = r.Discard(3) // it was peeked at
	}
	head, err := r.Peek(maxLine)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, bufio.ErrBufferFull) {
		return "", err
	}
	if len(head) == 0 {
		return "", errors.New("the file is empty")
	}
	if bytes.IndexByte(head, 0) >= 0 {
		return "", errors.New("this is not text")
	}
	switch first := bytes.TrimLeft(head, " \t\r\n"); {
	case len(first) > 0 && first[0] == '{':
		return b.json(r)
	case isCSV(first):
		return "ThreatConnect CSV", b.csv(r)
	case bytes.HasPrefix(first, []byte("#fields")), bytes.HasPrefix(first, []byte("#separator")):
		return "Zeek", b.zeek(r)
	default:
		return "plain", b.plain(r)
	}
}

// line returns the next line without its end, at most maxLine bytes; long says that
// it had more. At the end ok is false.
func line(r *bufio.Reader) (text []byte, long, ok bool, err error) {
	text, err = r.ReadSlice('\n')
	for errors.Is(err, bufio.ErrBufferFull) {
		long = true
		_, err = r.ReadSlice('\n')
	}
	if errors.Is(err, io.EOF) {
		return bytes.TrimRight(text, "\r\n"), long, long || len(text) > 0, nil
	}
	return bytes.TrimRight(text, "\r\n"), long, err == nil, err
}

// plain reads a list of one indicator per line.
func (b *builder) plain(r *bufio.Reader) error {
	base := b.base()
	for {
		raw, long, ok, err := line(r)
		if !ok || err != nil {
			return err
		}
		text := string(raw)
		if i := strings.IndexByte(text, '#'); i == 0 || i > 0 && (text[i-1] == ' ' || text[i-1] == '\t') {
			text = text[:i]
		}
		text = strings.TrimSpace(text)
		switch {
		case text == "" && !long:
		case long || text == "" || strings.ContainsAny(text, " \t,;<>\"'"):
			b.skip(notIndicator)
		default:
			if err := b.guess(text, base); err != nil {
				return err
			}
		}
	}
}

var csvHead = []string{"type", "value", "rating", "confidence"}

func isCSV(head []byte) bool {
	first, _, _ := bytes.Cut(head, []byte("\n"))
	return csvColumns(strings.Split(string(first), ",")) != nil
}

// csvColumns returns where the columns of ThreatConnect's CSV are, nil when they are
// not there.
func csvColumns(head []string) []int {
	var at []int
	for _, want := range csvHead {
		i := slices.IndexFunc(head, func(s string) bool { return strings.EqualFold(strings.Trim(strings.TrimSpace(s), `"`), want) })
		if i < 0 {
			return nil
		}
		at = append(at, i)
	}
	return at
}

// csv reads ThreatConnect's bulk CSV: Type,Value,Rating,Confidence.
func (b *builder) csv(r *bufio.Reader) error {
	var at []int
	var row []string
	for {
		raw, long, ok, err := line(r)
		if !ok || err != nil {
			return err
		}
		if len(raw) == 0 && !long {
			continue
		}
		row = splitCSV(row[:0], string(raw))
		if at == nil {
			if at = csvColumns(row); at == nil {
				return errors.New("the first line does not name the columns")
			}
			continue
		}
		if long {
			b.skip(notIndicator)
			continue
		}
		if len(row) <= slices.Max(at) {
			b.skip(notIndicator)
			continue
		}
		v := verdict.Verdict{Owner: b.config.owner()}
		v.Rating, _ = strconv.ParseFloat(row[at[2]], 64) // null: it has none
		confidence, _ := strconv.ParseFloat(row[at[3]], 64)
		v.Confidence = int(min(max(confidence, 0), 100))
		if err := b.threatConnect(row[at[0]], row[at[1]], v); err != nil {
			return err
		}
	}
}

// splitCSV appends the fields of a line (RFC 4180). No value that can be looked up
// has the end of a line in it.
func splitCSV(row []string, line string) []string {
	for {
		if !strings.HasPrefix(line, `"`) {
			field, rest, more := strings.Cut(line, ",")
			if row = append(row, field); !more {
				return row
			}
			line = rest
			continue
		}
		end := 1
		for end < len(line) && (line[end] != '"' || strings.HasPrefix(line[end+1:], `"`)) {
			if line[end] == '"' {
				end++
			}
			end++
		}
		row = append(row, strings.ReplaceAll(line[1:min(end, len(line))], `""`, `"`))
		_, rest, more := strings.Cut(line[min(end+1, len(line)):], ",")
		if !more {
			return row
		}
		line = rest
	}
}

// threatConnect adds an indicator of a type of ThreatConnect's.
func (b *builder) threatConnect(typ, value string, v verdict.Verdict) error {
	switch strings.ToLower(strings.ReplaceAll(typ, " ", "")) {
	case "address":
		return b.put(indicator.Address, value, v)
	case "cidr":
		if !strings.Contains(value, "/") {
			b.skip(notIndicator)
			return nil
		}
		return b.put(indicator.Address, value, v)
	case "host":
		return b.put(indicator.Host, value, v)
	case "url":
		return b.put(indicator.URL, value, v)
	case "emailaddress":
		return b.put(indicator.Email, value, v)
	case "useragent":
		return b.put(indicator.UserAgent, value, v)
	case "file":
		for _, sum := range strings.SplitN(value, " : ", 4) {
			if err := b.put(indicator.File, sum, v); err != nil {
				return err
			}
		}
		return nil
	}
	b.skip(notSupported + oneLine(typ, 40))
	return nil
}

// zeekTypes are the types of Zeek's intelligence framework that are looked up.
var zeekTypes = map[string]indicator.Type{
	"Intel::ADDR": indicator.Address, "Intel::SUBNET": indicator.Address, "Intel::URL": indicator.URL,
	"Intel::SOFTWARE": indicator.UserAgent, "Intel::EMAIL": indicator.Email, "Intel::DOMAIN": indicator.Host,
	"Intel::CERT_HASH": indicator.Certificate, "Intel::FILE_HASH": indicator.File,
}

// zeek reads a file of Zeek's intelligence framework: columns that #fields names,
// with tabs between them.
func (b *builder) zeek(r *bufio.Reader) error {
	var fields []string
	column := func(row []string, name string) string {
		if i := slices.Index(fields, name); i >= 0 && i < len(row) && row[i] != "-" {
			return row[i]
		}
		return ""
	}
	for {
		raw, long, ok, err := line(r)
		if !ok || err != nil {
			return err
		}
		text := string(raw)
		if rest, ok := strings.CutPrefix(text, "#fields\t"); ok {
			fields = strings.Split(rest, "\t")
			if !slices.Contains(fields, "indicator") || !slices.Contains(fields, "indicator_type") {
				return errors.New("#fields has no indicator or no indicator_type")
			}
			continue
		}
		if text == "" || text[0] == '#' {
			continue
		}
		if fields == nil {
			return errors.New("there is no line of #fields with tabs between them")
		}
		row := strings.Split(text, "\t")
		name := column(row, "indicator_type")
		typ, known := zeekTypes[name]
		switch {
		case long:
			b.skip(notIndicator)
			continue
		case !known:
			b.skip(notSupported + oneLine(name, 40))
			continue
		}
		v := b.base()
		v.Description, v.Link = column(row, "meta.desc"), column(row, "meta.url")
		if source := column(row, "meta.source"); source != "" {
			v.Owner = source
		}
		if err := b.put(typ, column(row, "indicator"), v); err != nil {
			return err
		}
	}
}
