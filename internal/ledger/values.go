package ledger

import (
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"math"
	"time"
)

// stamp is a time as it lies in the ledger.
type stamp time.Time

// The times that 64 bits of nanoseconds can hold, years 1677 to 2262. A packet
// that claims to come from elsewhere is recorded with the nearest of them.
var (
	earliest = time.Unix(0, math.MinInt64).UTC()
	latest   = time.Unix(0, math.MaxInt64).UTC()
)

// inRange returns t as the ledger will give it back.
func inRange(t time.Time) time.Time {
	switch {
	case t.IsZero():
		return time.Time{}
	case t.Before(earliest):
		return earliest
	case t.After(latest):
		return latest
	}
	return time.Unix(0, t.UnixNano()).UTC()
}

func (s stamp) Value() (driver.Value, error) {
	t := inRange(time.Time(s))
	if t.IsZero() {
		return nil, nil
	}
	return t.UnixNano(), nil
}

func (s *stamp) Scan(v any) error {
	switch v := v.(type) {
	case nil:
		*s = stamp{}
	case int64:
		*s = stamp(time.Unix(0, v).UTC())
	default:
		return fmt.Errorf("time is stored as %T", v)
	}
	return nil
}

// list is a list of texts as it lies in the ledger: a JSON array. JSON can't
// hold invalid UTF-8, so such bytes become U+FFFD.
type list []string

func (l list) Value() (driver.Value, error) {
	if len(l) == 0 {
		return "[]", nil
	}
	b, err := json.Marshal([]string(l))
	return string(b), err
}

func (l *list) Scan(v any) error {
	s, ok := v.(string)
	if !ok {
		return fmt.Errorf("list is stored as %T", v)
	}
	*l = nil
	if s == "[]" {
		return nil
	}
	if json.Unmarshal([]byte(s), (*[]string)(l)) != nil {
		*l = list{s} // a flipped bit in one list must not make every listing fail
	}
	return nil
}

// liveText is what is known of a live capture as it lies in the ledger: a JSON
// object, "" where there is none.
type liveText struct{ to **Live }

func liveValue(l *Live) (string, error) {
	if l == nil {
		return "", nil
	}
	b, err := json.Marshal(l)
	return string(b), err
}

func (l liveText) Scan(v any) error {
	s, ok := v.(string)
	if !ok {
		return fmt.Errorf("metadata is stored as %T", v)
	}
	*l.to = nil
	if s == "" {
		return nil
	}
	var found Live
	if json.Unmarshal([]byte(s), &found) != nil {
		found = Live{Error: "what was known of this capture can't be read"} // as for lists
	}
	*l.to = &found
	return nil
}
