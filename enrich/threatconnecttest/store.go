package threatconnecttest

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Owner is an organization, a community or a source.
type Owner struct {
	ID     int64 // 0: one is given
	Name   string
	Type   string // "Organization", "Community", "Source"; "": "Source"
	Hidden bool   // the API user may not see it
	NoBulk bool   // bulk downloads are not enabled
}

// Group is what indicators are associated with.
type Group struct {
	ID    int64 // 0: one is given, the same for equal groups
	Type  string
	Name  string
	Owner string // "": the indicator's
}

// Indicator is one indicator of one owner.
type Indicator struct {
	ID   int64  // 0: one is given
	Type string // as v3 names it: "Address", "Host", "URL", "File", "EmailAddress", ...
	// Value is brought into canonical form by Add. Of a file it is one hash or
	// several, joined with " : ".
	Value      string
	Owner      string  // made when it does not exist; "": the organization
	Rating     float64 // 0: not said
	Confidence int     // 0: not said
	Inactive   bool
	Tags       []string
	Groups     []Group

	Description    string
	Source         string
	Score          int       // threatAssessScore, 0 to 1000
	Added          time.Time // zero: now
	Modified       time.Time // zero: Added
	Observations   int64
	FalsePositives int64

	seq int64  // from 1; decides what its loose types look like
	day string // of the last false positive
}

// hashes are value1 to value3 of a file, and of others the value alone.
func (i *Indicator) values() [3]string {
	if i.Type != "File" {
		return [3]string{i.Value}
	}
	var out [3]string
	for _, h := range strings.Split(i.Value, " : ") {
		if n := hashKind(h); n >= 0 {
			out[n] = h
		}
	}
	return out
}

// hashKind is 0, 1, 2 for MD5, SHA-1, SHA-256, and -1 for anything else.
func hashKind(h string) int { return slices.Index([]int{32, 40, 64}, len(h)) }

// ExclusionList is a list of values that the customer does not want to see.
type ExclusionList struct {
	ID              int64 // 0: one is given
	Name            string
	Owner           string   // "": the system's
	Fixed, Variable []string // values, patterns
}

// Observation is what a client reported.
type Observation struct {
	Time      time.Time
	Indicator int64
	Type      string
	Value     string
	Owner     string
	Count     int64
}

// Attribute is a text that an incident carries.
type Attribute struct{ Type, Value string }

// Incident is a group that a client made.
type Incident struct {
	ID         int64
	Name       string
	Owner      string
	EventDate  string // as it was sent
	Status     string
	Tags       []string
	Attributes []Attribute
	Indicators []int64 // ids of those associated
	Created    time.Time
}

// store is everything that a server knows.
type store struct {
	org  string
	tidy bool
	now  func() time.Time

	mu           sync.RWMutex
	ids          int64
	owners       []*Owner
	indicators   []*Indicator // by seq
	byID         map[int64]*Indicator
	byKey        map[[3]string]*Indicator // type, value1..3, owner
	groups       map[Group]int64
	exclusions   []ExclusionList
	observations []Observation
	incidents    []*Incident
	// incidentCount counts those that were forgotten, too.
	incidentCount int64
}

func newStore(org string, tidy bool, now func() time.Time) *store {
	st := &store{org: org, tidy: tidy, now: now, byID: map[int64]*Indicator{}, byKey: map[[3]string]*Indicator{}, groups: map[Group]int64{}}
	st.addOwner(Owner{Name: org, Type: "Organization"})
	return st
}

// nextID gives numbers that a float64 cannot hold, unless the types are tidy.
func (st *store) nextID() int64 {
	st.ids++
	if st.tidy {
		return 1000 + st.ids
	}
	return 1<<53 + 2*st.ids - 1
}

// groupID counts apart from indicators, as the same number may be both.
func (st *store) groupID() int64 {
	n := int64(len(st.groups)) + st.incidentCount + 1
	if st.tidy {
		return 1000 + n
	}
	return 1<<53 + 2*n - 1
}

// AddOwner adds an owner, or changes the one of that name.
func (s *Server) AddOwner(o Owner) {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	s.store.addOwner(o)
}

func (st *store) addOwner(o Owner) *Owner {
	o.Type = cmp.Or(o.Type, "Source")
	old := st.owner(o.Name)
	if old == nil {
		o.ID = cmp.Or(o.ID, int64(10+len(st.owners)))
		st.owners = append(st.owners, &o)
		return &o
	}
	o.ID = cmp.Or(o.ID, old.ID)
	*old = o
	return old
}

func (st *store) owner(name string) *Owner {
	i := slices.IndexFunc(st.owners, func(o *Owner) bool { return o.Name == name })
	if i < 0 {
		return nil
	}
	return st.owners[i]
}

// Add adds an indicator and returns its id. One of the same type, value and
// owner is replaced and keeps its id. It panics when there is no value, or a
// file's is no hash, which is the caller's mistake.
func (s *Server) Add(i Indicator) int64 {
	st := s.store
	st.mu.Lock()
	defer st.mu.Unlock()
	i.Value = Canonical(i.Type, i.Value)
	if i.values() == [3]string{} {
		panic("threatconnecttest: no value that fits its type: " + strconv.Quote(i.Value))
	}
	i.Owner = cmp.Or(i.Owner, st.org)
	if st.owner(i.Owner) == nil {
		st.addOwner(Owner{Name: i.Owner})
	}
	if i.Added.IsZero() {
		i.Added = st.now()
	}
	if i.Modified.IsZero() {
		i.Modified = i.Added
	}
	i.Tags = slices.Clone(i.Tags)
	i.Groups = slices.Clone(i.Groups)
	for n := range i.Groups {
		st.identify(&i.Groups[n], i.Owner)
	}
	if old := st.find(i.Type, i.Value, i.Owner); old != nil {
		i.ID, i.seq = old.ID, old.seq
		st.forget(old)
		*old = i
		st.index(old)
		return old.ID
	}
	if i.ID == 0 {
		i.ID = st.nextID()
	}
	i.seq = int64(len(st.indicators)) + 1
	st.indicators = append(st.indicators, &i)
	st.index(&i)
	return i.ID
}

func (st *store) identify(g *Group, owner string) {
	g.Owner = cmp.Or(g.Owner, owner)
	if g.ID != 0 {
		return
	}
	if st.groups[*g] == 0 {
		st.groups[*g] = st.groupID()
	}
	g.ID = st.groups[*g]
}

func (st *store) index(i *Indicator) {
	st.byID[i.ID] = i
	for _, v := range i.values() {
		if v != "" {
			st.byKey[[3]string{i.Type, v, i.Owner}] = i
		}
	}
}

func (st *store) forget(i *Indicator) {
	for _, v := range i.values() {
		delete(st.byKey, [3]string{i.Type, v, i.Owner})
	}
}

// find looks up an indicator by its value, a file by any of its hashes.
func (st *store) find(kind, value, owner string) *Indicator {
	for _, v := range (&Indicator{Type: kind, Value: value}).values() {
		if i := st.byKey[[3]string{kind, v, owner}]; v != "" && i != nil {
			return i
		}
	}
	return nil
}

// visible says whether the API user may see that owner.
func (st *store) visible(name string) bool {
	o := st.owner(name)
	return o != nil && !o.Hidden
}

// Canonical brings a value into the form that the server keeps
// (contracts/threatconnect.md 2.3). What does not fit its type is left as it is.
func Canonical(kind, value string) string {
	switch kind {
	case "Address":
		if a, err := netip.ParseAddr(value); err == nil {
			return addressText(a)
		}
	case "CIDR":
		if p, err := netip.ParsePrefix(value); err == nil {
			return fmt.Sprintf("%s/%d", addressText(p.Addr()), p.Bits())
		}
	case "Host", "EmailAddress":
		return strings.ToLower(value)
	case "URL":
		if scheme, rest, ok := strings.Cut(value, "://"); ok {
			end := strings.IndexAny(rest+"/", "/?#")
			return scheme + "://" + strings.ToLower(rest[:end]) + rest[end:]
		}
	case "File":
		var known [3]string
		for _, h := range strings.Split(value, " : ") {
			n := hashKind(h)
			if n < 0 {
				return value
			}
			known[n] = strings.ToUpper(h)
		}
		return strings.Join(slices.DeleteFunc(known[:], func(h string) bool { return h == "" }), " : ")
	}
	return value
}

// addressText writes IPv6 without "::", leading zeros or upper case.
func addressText(a netip.Addr) string {
	if a.Is4() {
		return a.String()
	}
	b := a.As16()
	var groups []string
	for pair := range slices.Chunk(b[:], 2) {
		groups = append(groups, fmt.Sprintf("%x", binary.BigEndian.Uint16(pair)))
	}
	return strings.Join(groups, ":")
}
