package choose

import (
	"bufio"
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/gaissmai/bart"

	"capagent/enrich/indicator"
	"capagent/enrich/verdict"
)

// Config is what is left out besides what nobody could know anything of.
type Config struct {
	// Exclude are values: an address, a prefix, a host with all below it, an e-mail
	// address or *@x.example, a URL in which * is anything, a digest.
	Exclude []string
	// ExcludeFiles hold such values, one a line; # begins a comment.
	ExcludeFiles []string
	// TopFiles are lists of the most visited names, as Tranco, Umbrella and Majestic
	// publish them, of which the first TopN are left out (0: 1000).
	TopFiles []string
	TopN     int
	// NoDefaults looks up also what is everywhere by the list of the program.
	NoDefaults bool

	Special func(netip.Addr) bool // addresses that mean nothing outside of their network
	Own     []netip.Prefix
}

const (
	defaultTop = 1000
	maxTop     = 5_000_000
	maxValues  = 1_000_000 // of all files
	maxURLs    = 1000      // each is compared with every URL
	maxLine    = 16 << 10
)

//go:embed common.txt
var common []byte

// New reads the files of a Config.
func New(c Config) (*Chooser, error) {
	chooser := &Chooser{config{c.Special, c.Own}, newSet(), newSet(), newSet()}
	for _, v := range c.Exclude {
		if err := chooser.excluded.add(v, true); err != nil {
			return nil, fmt.Errorf("exclude %.80q: %w", v, err)
		}
	}
	for _, path := range c.ExcludeFiles {
		if err := readFile(path, func(text string, _ int) error { return chooser.excluded.add(text, true) }); err != nil {
			return nil, err
		}
	}
	if !c.NoDefaults {
		if err := lines(bytes.NewReader(common), func(text string, _ int) error { return chooser.common.add(text, false) }); err != nil {
			return nil, fmt.Errorf("the list of the program: %w", err)
		}
	}
	most := c.TopN
	if most == 0 {
		most = defaultTop
	}
	for _, path := range c.TopFiles {
		t := top{set: chooser.top, most: min(most, maxTop)}
		if err := readFile(path, t.line); err != nil && !errors.Is(err, errEnough) {
			return nil, err
		}
		if t.taken == 0 {
			return nil, fmt.Errorf("%q holds no names of a list of the most visited", path)
		}
	}
	return chooser, nil
}

func readFile(path string, f func(text string, line int) error) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // it was only read
	if err := lines(file, f); err != nil {
		return fmt.Errorf("read %q: %w", path, err)
	}
	return nil
}

// lines calls f with each line that says something.
func lines(r io.Reader, f func(text string, line int) error) error {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 0, 4096), maxLine)
	n := 0
	for s.Scan() {
		n++
		text := strings.TrimPrefix(s.Text(), "\ufeff")
		if i := strings.IndexByte(text, '#'); i == 0 || i > 0 && (text[i-1] == ' ' || text[i-1] == '\t') {
			text = text[:i]
		}
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		if err := f(text, n); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
	return s.Err()
}

// set is values that are left out.
type set struct {
	values   map[string]bool // names, e-mail addresses, digests
	below    map[string]bool // names of which everything below belongs to it
	senders  map[string]bool // domains of *@x.example
	prefixes bart.Lite
	urls     [][]string // pieces between the stars
}

func newSet() *set {
	return &set{values: map[string]bool{}, below: map[string]bool{}, senders: map[string]bool{}}
}

var (
	errNoValue = errors.New("expected an address, a prefix, a host, an e-mail address, a URL or a digest")
	errTooMany = errors.New("there are too many")
	errEnough  = errors.New("enough was read")
)

// add puts a value in. A host stands for those below it when it begins with a dot, or
// when under says so; *.x.example is those below it only.
func (s *set) add(text string, under bool) error {
	if len(s.values)+len(s.below)+len(s.senders) >= maxValues || len(s.urls) >= maxURLs {
		return errTooMany
	}
	text = indicator.Refang(text)
	if strings.Contains(text, "://") || strings.Contains(text, "*") && strings.Contains(text, "/") {
		s.urls = append(s.urls, strings.Split(text, "*"))
		return nil
	}
	if p, ok := indicator.CanonicalPrefix(text); ok {
		s.prefixes.Insert(p)
		return nil
	}
	if domain, ok := strings.CutPrefix(text, "*@"); ok {
		name, ok := indicator.Canonical(indicator.Host, domain)
		if !ok {
			return errNoValue
		}
		s.senders[name] = true
		return nil
	}
	for _, t := range []indicator.Type{indicator.Address, indicator.File, indicator.Email} {
		value, ok := indicator.Canonical(t, text)
		if !ok {
			continue
		}
		if a, err := netip.ParseAddr(value); err == nil {
			s.prefixes.Insert(netip.PrefixFrom(a, a.BitLen()))
		}
		s.values[value] = true
		return nil
	}
	return s.addHost(text, under)
}

func (s *set) addHost(text string, under bool) error {
	rest, only := strings.CutPrefix(text, "*.")
	name, both := strings.CutPrefix(rest, ".")
	name, ok := indicator.Canonical(indicator.Host, name)
	if !ok || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "" {
		return errNoValue
	}
	if !only {
		s.values[name] = true
	}
	if only || both || under {
		s.below[name] = true
	}
	return nil
}

// host says whether a name, which has no more than 253 bytes, belongs to the set.
func (s *set) host(name string) bool {
	if s.values[name] {
		return true
	}
	for len(s.below) > 0 {
		_, parent, more := strings.Cut(name, ".")
		if !more {
			return false
		}
		if s.below[parent] {
			return true
		}
		name = parent
	}
	return false
}

func (s *set) email(value string) bool {
	_, domain, ok := strings.Cut(value, "@")
	return s.values[value] || ok && s.senders[domain]
}

func (s *set) url(u string) bool {
	for _, pieces := range s.urls {
		if matches(pieces, u) {
			return true
		}
	}
	return false
}

// matches says whether a text is made of the pieces with anything between them. It
// looks at each byte of the text a few times at most.
func matches(pieces []string, text string) bool {
	first, last := pieces[0], pieces[len(pieces)-1]
	if len(pieces) == 1 {
		return text == first
	}
	text, ok := strings.CutPrefix(text, first)
	if !ok {
		return false
	}
	if text, ok = strings.CutSuffix(text, last); !ok {
		return false
	}
	for _, piece := range pieces[1 : len(pieces)-1] {
		i := strings.Index(text, piece)
		if i < 0 {
			return false
		}
		text = text[i+len(piece):]
	}
	return true
}

// top reads lists of the most visited: "1,google.com" (Tranco, Umbrella), or with a
// head that names the column of the domain (Majestic: GlobalRank,TldRank,Domain,…).
type top struct {
	*set
	most   int
	column int
	taken  int
}

func (t *top) line(text string, line int) error {
	fields := strings.Split(text, ",")
	if line == 1 {
		t.column = min(1, len(fields)-1)
		for i, f := range fields {
			if strings.EqualFold(f, "Domain") {
				t.column = i
				return nil
			}
		}
	}
	if t.column >= len(fields) {
		return nil
	}
	if _, err := strconv.Atoi(fields[0]); len(fields) > 1 && err != nil {
		return nil
	}
	name, ok := indicator.Canonical(indicator.Host, strings.Trim(fields[t.column], `" `))
	if !ok || !strings.Contains(name, ".") {
		return nil // lists have top-level domains, too
	}
	t.values[name], t.values["www."+name] = true, true
	if t.taken++; t.taken >= t.most {
		return errEnough
	}
	return nil
}

// Exclusions are values that somebody else leaves out: each as it is written, without
// what lies below a host, unless it begins with "*.".
type Exclusions struct{ set *set }

// NewExclusions takes values and says how many it can't read, which are left out.
func NewExclusions(values []string) (*Exclusions, int) {
	e, bad := &Exclusions{newSet()}, 0
	for _, v := range values {
		if e.set.add(v, false) != nil {
			bad++
		}
	}
	return e, bad
}

// Has says whether an indicator is one of them.
func (e *Exclusions) Has(q verdict.Query) bool {
	switch q.Type {
	case indicator.Address:
		a, err := netip.ParseAddr(q.Value)
		return err == nil && e.set.prefixes.Contains(a)
	case indicator.Host:
		return e.set.host(q.Value)
	case indicator.URL:
		return e.set.url(q.Value)
	case indicator.Email:
		return e.set.email(q.Value)
	case indicator.File:
		return e.set.values[q.Value]
	}
	return false
}
