package ledger

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Sighting is what one capture held of one indicator.
type Sighting struct {
	Type       string // one of SightingTypes
	Value      string // in its one form, at most maxSighted bytes
	Role       uint64 // bits whose meaning is the caller's; it must never change
	FirstFrame int64
	Count      int64
	// First and Last are kept to the millisecond, counted from the earliest First of
	// the capture.
	First, Last time.Time
}

// maxSighted is the length of the longest value that is kept.
const maxSighted = 8 << 10

// sightingTypes give each type of indicator its number in the store, counted from
// 1. An entry never moves or changes once it is released; new ones go to the end.
var sightingTypes = []string{
	"address", "host", "url", "file", "email", "certificate", "ja3", "ja4", "user_agent", "local_host",
}

const (
	typeAddress   = 1
	typeHost      = 2
	typeLocalHost = 10
)

// SightingTypes lists the types of indicators that the ledger knows.
func SightingTypes() []string { return slices.Clone(sightingTypes) }

// A key is an indicator as it lies in the store: the type's number, then the value
// in a form in which what belongs together lies together, so that a prefix of
// addresses or a domain with all below it is one range of keys.
type key = []byte

// The second byte of keys whose values have a binary form.
const (
	formText   = 0
	formBinary = 1
	formV4     = 4
	formV6     = 6
)

func newKey(typ, value string) (key, error) {
	number := slices.Index(sightingTypes, typ) + 1
	if number == 0 {
		return nil, fmt.Errorf("%q is no type of indicator", typ)
	}
	if value == "" || len(value) > maxSighted {
		return nil, fmt.Errorf("an indicator of %d bytes", len(value))
	}
	k := append(make(key, 0, 2+len(value)), byte(number))
	switch typ {
	case "address":
		if a, err := netip.ParseAddr(value); err == nil && a.String() == value && a.Zone() == "" && !a.Is4In6() {
			return append(append(k, addressForm(a)), a.AsSlice()...), nil
		}
		return append(append(k, formText), value...), nil
	case "file", "certificate", "ja3":
		raw, err := hex.DecodeString(value)
		if err != nil || hex.EncodeToString(raw) != value {
			return append(append(k, formText), value...), nil
		}
		return append(append(k, formBinary), raw...), nil
	case "host", "local_host":
		return append(k, reversed(value)...), nil
	}
	return append(k, value...), nil
}

func addressForm(a netip.Addr) byte {
	if a.Is4() {
		return formV4
	}
	return formV6
}

// indicatorOf returns what a key stands for.
func indicatorOf(k key) (typ, value string, err error) {
	if len(k) < 2 || k[0] == 0 || int(k[0]) > len(sightingTypes) {
		return "", "", fmt.Errorf("%w: the key of no indicator", errStructure)
	}
	typ = sightingTypes[k[0]-1]
	switch typ {
	case "address":
		if a, ok := netip.AddrFromSlice(k[2:]); ok && (k[1] == formV4 || k[1] == formV6) {
			return typ, a.String(), nil
		}
		return typ, string(k[2:]), nil
	case "file", "certificate", "ja3":
		if k[1] == formBinary {
			return typ, hex.EncodeToString(k[2:]), nil
		}
		return typ, string(k[2:]), nil
	case "host", "local_host":
		return typ, reversed(string(k[1:])), nil
	}
	return typ, string(k[1:]), nil
}

// reversed returns the labels of a name in the other order.
func reversed(name string) string {
	labels := strings.Split(name, ".")
	slices.Reverse(labels)
	return strings.Join(labels, ".")
}

// span is the keys from lo to before hi.
type span struct{ lo, hi key }

func only(k key) span { return span{k, append(bytes.Clone(k), 0)} }

// beginning is the span of all keys that begin with k, whose first byte is not 0xff.
func beginning(k key) span {
	hi := bytes.Clone(k)
	for hi[len(hi)-1] == math.MaxUint8 {
		hi = hi[:len(hi)-1]
	}
	hi[len(hi)-1]++
	return span{k, hi}
}

func (s span) has(k key) bool { return bytes.Compare(k, s.lo) >= 0 && bytes.Compare(k, s.hi) < 0 }

// Wanted is what Find looks for.
type Wanted struct {
	Type  string
	Value string // in its one form; with Below a domain, or a prefix of addresses such as "192.0.2.0/24"
	Below bool   // everything below Value, which for a domain is not the domain itself
}

func (w Wanted) span() (span, error) {
	if !w.Below {
		k, err := newKey(w.Type, w.Value)
		return only(k), err
	}
	switch w.Type {
	case "host", "local_host":
		k, err := newKey(w.Type, w.Value)
		if err != nil {
			return span{}, err
		}
		return beginning(append(k, '.')), nil
	case "address":
		p, err := netip.ParsePrefix(w.Value)
		if err != nil {
			return span{}, err
		}
		return prefixSpan(p.Masked()), nil
	}
	return span{}, fmt.Errorf("nothing lies below an indicator of the type %q", w.Type)
}

func prefixSpan(p netip.Prefix) span {
	lo := append(key{typeAddress, addressForm(p.Addr())}, p.Addr().AsSlice()...)
	hi := bytes.Clone(lo)
	for bit := p.Bits(); bit < p.Addr().BitLen(); bit++ {
		hi[2+bit/8] |= 0x80 >> (bit % 8)
	}
	return span{lo, only(hi).hi}
}

// Sight records what a capture held, in place of what was recorded of it before.
// Its cost does not grow with the store. What lies in the store can be made anew
// from captures, so the store is a file of its own, and nothing that happens to it
// touches the ledger.
func (l *Ledger) Sight(ctx context.Context, capture int64, sightings []Sighting) error {
	if capture <= 0 {
		return fmt.Errorf("record sightings: %d is no capture's number", capture)
	}
	seen, base, err := newSeen(sightings)
	if err != nil {
		return fmt.Errorf("record sightings of capture %d: %w", capture, err)
	}
	last := base
	for _, s := range seen {
		last = max(last, s.until(base))
	}
	err = l.writeSightings(ctx, func(ctx context.Context, s *sightStore, tx *txn) error {
		return s.sight(ctx, tx, capture, base, last, seen)
	})
	if err != nil {
		return fmt.Errorf("record sightings of capture %d: %w", capture, err)
	}
	return nil
}

// seen is a sighting on its way into the store.
type seen struct {
	key key
	posting
}

// newSeen checks sightings and brings them into the order of their keys.
func newSeen(sightings []Sighting) (all []seen, base int64, err error) {
	base = math.MaxInt64
	for _, s := range sightings {
		base = min(base, inRange(s.First).UnixNano())
	}
	if len(sightings) == 0 {
		base = 0
	}
	all = make([]seen, 0, len(sightings))
	for _, s := range sightings {
		k, err := newKey(s.Type, s.Value)
		if err != nil {
			return nil, 0, err
		}
		if s.FirstFrame < 0 || s.Count < 0 || s.First.IsZero() || s.Last.Before(s.First) {
			return nil, 0, fmt.Errorf("the %s %.40q: frame %d, count %d, from %v to %v", s.Type, s.Value, s.FirstFrame, s.Count, s.First, s.Last)
		}
		all = append(all, seen{k, posting{
			frame: s.FirstFrame, count: s.Count, role: s.Role,
			first: millis(base, inRange(s.First).UnixNano()), span: millis(inRange(s.First).UnixNano(), inRange(s.Last).UnixNano()),
		}})
	}
	slices.SortFunc(all, func(a, b seen) int { return bytes.Compare(a.key, b.key) })
	for i := 1; i < len(all); i++ {
		if bytes.Equal(all[i-1].key, all[i].key) {
			return nil, 0, fmt.Errorf("the same indicator twice: %.40q", all[i].key[1:])
		}
	}
	return all, base, nil
}

// millis is the whole milliseconds from a to b, which may lie further apart than 63
// bits of nanoseconds.
func millis(a, b int64) int64 { return int64(uint64(b)-uint64(a)) / 1e6 }
