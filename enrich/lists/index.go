package lists

import (
	"cmp"
	"encoding/binary"
	"errors"
	"hash/maphash"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/gaissmai/bart"

	"capagent/enrich/indicator"
	"capagent/enrich/verdict"
)

// kind is what an entry of a list matches.
type kind byte

const (
	address  kind = iota
	prefix        // every address of it
	host          // this name
	below         // every name below it
	fullURL       // with its scheme
	bareURL       // without one: http and https
	digest        // of a file, a certificate or a ClientHello: equal digests mean the same bytes
	email         //
	agent         // user agent, as it is sent
	ja4           //
	numKinds      // how many there are
)

// What a list holds at most.
const (
	MaxEntries = 5_000_000
	maxMemory  = 768 << 20
)

var errTooLarge = errors.New("the list is too large")

// index is the entries of one version of a list. An entry takes 16 bytes and its
// value, and what is said of it, which entries that follow each other share.
type index struct {
	seed     maphash.Seed
	entries  []entry // in the order of their hashes
	values   []byte  // records: kind, offset of the meta, length, value
	metas    []byte  // encoded verdicts
	prefixes bart.Lite
	has      [numKinds]bool
	lastMeta int // where the last meta begins, -1: there is none
	scratch  []byte
}

type entry struct {
	hash uint64
	at   uint32 // in values
}

func newIndex() *index { return &index{seed: maphash.MakeSeed(), lastMeta: -1} }

func (x *index) hash(k kind, value string) uint64 {
	return maphash.String(x.seed, value) ^ uint64(k)*0x9e3779b97f4a7c15
}

// add puts an entry in. Its meta is what meta returned for its verdict.
func (x *index) add(k kind, value string, meta int) error {
	if len(x.entries) >= MaxEntries || len(x.values)+len(x.metas)+16*len(x.entries) > maxMemory {
		return errTooLarge
	}
	x.entries = append(x.entries, entry{x.hash(k, value), uint32(len(x.values))})
	x.values = append(x.values, byte(k))
	x.values = binary.AppendUvarint(x.values, uint64(meta))
	x.values = appendText(x.values, value)
	x.has[k] = true
	if k == prefix {
		p, err := netip.ParsePrefix(value)
		if err != nil {
			return err
		}
		x.prefixes.Insert(p)
	}
	return nil
}

// meta keeps a verdict and returns where.
func (x *index) meta(v *verdict.Verdict) int {
	x.scratch = appendVerdict(x.scratch[:0], v)
	if x.lastMeta < 0 || string(x.metas[x.lastMeta:]) != string(x.scratch) {
		x.lastMeta = len(x.metas)
		x.metas = append(x.metas, x.scratch...)
	}
	return x.lastMeta
}

// finish makes the index ready to be asked.
func (x *index) finish() {
	slices.SortFunc(x.entries, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.at, b.at))
	})
	x.entries, x.values, x.metas = slices.Clone(x.entries), slices.Clone(x.values), slices.Clone(x.metas)
}

// bytes is the memory of the index without that of prefixes.
func (x *index) bytes() int { return 16*len(x.entries) + len(x.values) + len(x.metas) }

// find calls f with what is said of each entry of that kind and value.
func (x *index) find(k kind, value string, f func(verdict.Verdict)) {
	if !x.has[k] {
		return
	}
	h := x.hash(k, value)
	i, _ := slices.BinarySearchFunc(x.entries, h, func(e entry, h uint64) int { return cmp.Compare(e.hash, h) })
	for ; i < len(x.entries) && x.entries[i].hash == h; i++ {
		record := x.values[x.entries[i].at:]
		meta, n := binary.Uvarint(record[1:])
		if text, _ := takeText(record[1+n:]); kind(record[0]) == k && string(text) == value {
			f(verdictOf(x.metas[meta:]))
		}
	}
}

// look returns what the list says of an indicator.
func (x *index) look(q verdict.Query) (found []verdict.Verdict) {
	take := func(v verdict.Verdict) {
		if !slices.ContainsFunc(found, func(have verdict.Verdict) bool { return same(&have, &v) }) && len(found) < maxVerdicts {
			found = append(found, v)
		}
	}
	switch q.Type {
	case indicator.Address:
		x.find(address, q.Value, take)
		if a, err := netip.ParseAddr(q.Value); err == nil && x.has[prefix] && x.prefixes.Contains(a) {
			for p := range x.prefixes.Supernets(netip.PrefixFrom(a, a.BitLen())) {
				x.find(prefix, p.String(), take)
			}
		}
	case indicator.Host:
		x.find(host, q.Value, take)
		for rest := q.Value; x.has[below]; {
			_, parent, more := strings.Cut(rest, ".")
			if !more {
				break
			}
			if rest = parent; len(rest) <= maxParent {
				x.find(below, rest, take)
			}
		}
	case indicator.URL:
		u := normal(q.Value)
		x.find(fullURL, u, take)
		if bare, ok := cutScheme(u); ok {
			x.find(bareURL, bare, take)
		}
	case indicator.File, indicator.Certificate, indicator.JA3:
		x.find(digest, q.Value, take)
	case indicator.Email:
		x.find(email, q.Value, take)
	case indicator.UserAgent:
		x.find(agent, q.Value, take)
	case indicator.JA4:
		x.find(ja4, q.Value, take)
	case indicator.LocalHost: // a name of one link is nobody's in a list
	}
	return found
}

const (
	maxVerdicts = 100 // of one indicator
	maxParent   = 255 // bytes of a name (RFC 1035, 2.3.4), so that a long name costs no more than a few
)

// same says whether two verdicts say the same.
func same(a, b *verdict.Verdict) bool {
	return a.Owner == b.Owner && a.Rating == b.Rating && a.Confidence == b.Confidence && a.ID == b.ID &&
		a.Link == b.Link && a.Description == b.Description && a.Modified.Equal(b.Modified)
}

// normal is a URL with a path, and without the port that its scheme has anyway.
func normal(u string) string {
	scheme, rest, ok := strings.Cut(u, "://")
	if !ok {
		return u
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	authority, path := rest[:end], rest[end:]
	switch scheme {
	case "http":
		authority = strings.TrimSuffix(authority, ":80")
	case "https":
		authority = strings.TrimSuffix(authority, ":443")
	}
	if path == "" {
		path = "/"
	}
	return scheme + "://" + authority + path
}

// cutScheme returns a URL without its scheme, which is http or https.
func cutScheme(u string) (string, bool) {
	if rest, ok := strings.CutPrefix(u, "http://"); ok {
		return rest, true
	}
	return strings.CutPrefix(u, "https://")
}

func appendText(b []byte, text string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

func takeText(b []byte) (text, rest []byte) {
	n, used := binary.Uvarint(b)
	b = b[used:]
	return b[:n], b[n:]
}

// appendVerdict encodes what verdictOf decodes. The source is the list's name.
func appendVerdict(b []byte, v *verdict.Verdict) []byte {
	b = binary.AppendUvarint(b, uint64(math.Round(v.Rating*100)))
	b = append(b, byte(v.Confidence))
	b = binary.AppendVarint(b, v.ID)
	modified := int64(0)
	if !v.Modified.IsZero() {
		modified = v.Modified.Unix()
	}
	b = binary.AppendVarint(b, modified)
	return appendText(appendText(appendText(b, v.Owner), v.Link), v.Description)
}

func verdictOf(b []byte) (v verdict.Verdict) {
	rating, n := binary.Uvarint(b)
	v.Rating = float64(rating) / 100
	v.Confidence = int(b[n])
	b = b[n+1:]
	v.ID, n = binary.Varint(b)
	b = b[n:]
	modified, n := binary.Varint(b)
	if modified != 0 {
		v.Modified = time.Unix(modified, 0).UTC()
	}
	owner, b := takeText(b[n:])
	link, b := takeText(b)
	description, _ := takeText(b)
	v.Owner, v.Link, v.Description = string(owner), string(link), string(description)
	return v
}
