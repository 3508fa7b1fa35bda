package threatconnecttest

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The types by their names in v3, their branches in v2, the field that holds the
// value of one, and the entity that v2 calls it.
var kinds = []struct{ name, branch, field, entity string }{
	{"Address", "addresses", "ip", "address"},
	{"Host", "hosts", "hostName", "host"},
	{"URL", "urls", "text", "url"},
	{"File", "files", "", "file"},
	{"EmailAddress", "emailAddresses", "address", "emailAddress"},
	{"ASN", "asns", "AS Number", "asn"},
	{"CIDR", "cidrBlocks", "Block", "cidrBlock"},
	{"Mutex", "mutexes", "Mutex", "mutex"},
	{"Registry Key", "registryKeys", "Key Name", "registryKey"},
	{"User Agent", "userAgents", "User Agent String", "userAgent"},
}

// dateForms are all that anybody has seen (contracts/threatconnect.md 2.2).
var dateForms = []func(time.Time) string{
	func(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") },
	func(t time.Time) string { return t.In(eastern).Format("2006-01-02T15:04:05-07:00") },
	func(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05") },
	func(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") },
	func(t time.Time) string { return t.In(eastern).Format("2006-01-02T15:04:05-07:00Z") },
}

var eastern = time.FixedZone("", -5*60*60)

// shaper writes indicators in the types that the server has.
type shaper struct {
	tidy bool
	base string
	st   *store
}

func (c *call) shaper() shaper {
	return shaper{tidy: c.s.opts.Tidy, base: strings.TrimSuffix(c.s.opts.BaseURL, "/"), st: c.s.store}
}

// id is a number, or a string of every third indicator.
func (s shaper) id(id, seq int64) any {
	if !s.tidy && seq%3 == 0 {
		return strconv.FormatInt(id, 10)
	}
	return id
}

func (s shaper) date(t time.Time, seq int64) string {
	if s.tidy {
		seq = 0
	}
	return dateForms[seq%int64(len(dateForms))](t)
}

// link is absolute, or starts with "null/" on a server that does not know its
// own name.
func (s shaper) link(path string, seq int64) string {
	if !s.tidy && seq%4 == 3 {
		return "null/auth" + strings.TrimPrefix(path, "/auth")
	}
	return s.base + path
}

func (s shaper) ownerID(name string) int64 {
	if o := s.st.owner(name); o != nil {
		return o.ID
	}
	return 0
}

// common is what v2 and v3 say in the same words.
func (s shaper) common(i *Indicator) object {
	o := object{
		"id": s.id(i.ID, i.seq), "ownerName": i.Owner,
		"dateAdded": s.date(i.Added, i.seq), "lastModified": s.date(i.Modified, i.seq+1),
	}
	// What is not set is absent, not null.
	set(o, "rating", i.Rating)
	set(o, "confidence", i.Confidence)
	set(o, "description", i.Description)
	set(o, "source", i.Source)
	return o
}

func set[T comparable](o object, key string, v T) {
	var zero T
	if v != zero {
		o[key] = v
	}
}

// value adds the field that is the type's own.
func (s shaper) value(o object, i *Indicator) {
	if i.Type == "File" {
		v := i.values()
		set(o, "md5", v[0])
		set(o, "sha1", v[1])
		set(o, "sha256", v[2])
		return
	}
	field := "value1"
	for _, k := range kinds {
		if k.name == i.Type {
			field = k.field
		}
	}
	o[field] = i.Value
}

// v3 is an indicator as v3 has it, with the fields that were asked for.
func (s shaper) v3(i *Indicator, fields []string) object {
	o := s.common(i)
	id := strconv.FormatInt(i.ID, 10)
	o["type"], o["summary"], o["ownerId"] = i.Type, i.Value, s.ownerID(i.Owner)
	o["privateFlag"], o["active"], o["activeLocked"] = false, !i.Inactive, false
	o["webLink"] = s.link("/#/details/indicators/"+id+"/overview", i.seq)
	o["legacyLink"] = s.legacyLink(i)
	s.value(o, i)
	for _, f := range fields {
		s.field(o, i, f)
	}
	return o
}

func (s shaper) legacyLink(i *Indicator) string {
	kind := strings.ToLower(strings.ReplaceAll(i.Type, " ", ""))
	return s.link("/auth/indicators/details/"+kind+".xhtml?"+kind+"="+url.QueryEscape(i.Value)+"&owner="+url.QueryEscape(i.Owner), i.seq)
}

// v3Fields are the names that fields= takes.
var v3Fields = []string{
	"tags", "threatAssess", "associatedGroups", "associatedIndicators", "attributes", "securityLabels", "sightings",
	"observations", "falsePositives", "dnsResolution", "whoIs", "geoLocation", "enrichment", "fileOccurrences",
	"genericCustomIndicatorValues", "trackedUsers", "associatedGroups.attributes",
}

func (s shaper) field(o object, i *Indicator, name string) {
	switch name {
	case "tags":
		var list []object
		for _, t := range i.Tags {
			list = append(list, object{"name": t})
		}
		o["tags"] = s.sub(list, i.seq)
	case "associatedGroups", "associatedGroups.attributes":
		var list []object
		for _, g := range i.Groups {
			list = append(list, s.group(g, i))
		}
		o["associatedGroups"] = s.sub(list, i.seq)
	case "threatAssess":
		o["threatAssessScore"], o["threatAssessRating"], o["threatAssessConfidence"] = i.Score, i.Rating, float64(i.Confidence)
	case "observations":
		o["observations"] = i.Observations
	case "falsePositives":
		o["falsePositives"] = i.FalsePositives
	case "genericCustomIndicatorValues":
		v := i.values()
		set(o, "value1", v[0])
		set(o, "value2", v[1])
		set(o, "value3", v[2])
	default:
		o[name] = s.sub(nil, i.seq)
	}
}

// sub is a list inside an object. An empty one has two forms.
func (s shaper) sub(list []object, seq int64) object {
	switch {
	case len(list) > 0:
		return object{"data": list, "count": len(list)}
	case seq%2 == 0:
		return object{"count": 0}
	default:
		return object{}
	}
}

func (s shaper) group(g Group, i *Indicator) object {
	return object{
		"id": s.id(g.ID, i.seq+1), "ownerId": s.ownerID(g.Owner), "ownerName": g.Owner, "type": g.Type, "name": g.Name,
		"dateAdded": s.date(i.Added, i.seq+2), "lastModified": s.date(i.Modified, i.seq+3),
		"webLink": s.link("/#/details/groups/"+strconv.FormatInt(g.ID, 10)+"/overview", i.seq),
	}
}

// subject answers TQL about an indicator.
func (st *store) subject(i *Indicator) subject {
	values := i.values()
	return func(keyword string) []string {
		switch keyword {
		case "typename":
			return []string{i.Type}
		case "summary":
			return []string{i.Value}
		case "value1", "value2", "value3":
			if v := values[keyword[5]-'1']; v != "" {
				return []string{v}
			}
		case "ownername":
			return []string{i.Owner}
		case "owner":
			return []string{strconv.FormatInt(st.owner(i.Owner).ID, 10)}
		case "tag":
			return slices.Clone(i.Tags)
		case "indicatoractive":
			return []string{strconv.FormatBool(!i.Inactive)}
		case "id":
			return []string{strconv.FormatInt(i.ID, 10)}
		case "rating":
			return []string{strconv.FormatFloat(i.Rating, 'f', -1, 64)}
		case "confidence":
			return []string{strconv.Itoa(i.Confidence)}
		case "threatassessscore":
			return []string{strconv.Itoa(i.Score)}
		case "falsepositivecount":
			return []string{strconv.FormatInt(i.FalsePositives, 10)}
		case "lastmodified":
			return []string{i.Modified.UTC().Format(time.RFC3339)}
		case "dateadded":
			return []string{i.Added.UTC().Format(time.RFC3339)}
		}
		return nil
	}
}
