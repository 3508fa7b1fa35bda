package service

import (
	"context"
	"net/netip"
	"os"

	"capagent/enrich"
	"capagent/internal/config"
	"capagent/internal/inspect"
	"capagent/internal/ledger"
	"capagent/internal/pcapio"
)

// InspectConfig is the table [inspect]: what is looked for in captures.
type InspectConfig struct {
	Indicators bool     `toml:"indicators"` // take indicators out of packets
	Own        []string `toml:"own"`        // prefixes that are not worth looking up
}

func defaultInspect() InspectConfig { return InspectConfig{Indicators: true} }

// Validate returns what is wrong with the table.
func (c *InspectConfig) Validate() []*config.Error {
	var errs []*config.Error
	for _, text := range c.Own {
		if _, err := prefix(text); err != nil {
			errs = append(errs, &config.Error{Key: "inspect.own", Err: err})
		}
	}
	return errs
}

// Prefixes are those of Own; what is none was told by Validate.
func (c *InspectConfig) Prefixes() []netip.Prefix {
	var list []netip.Prefix
	for _, text := range c.Own {
		if p, err := prefix(text); err == nil {
			list = append(list, p)
		}
	}
	return list
}

// prefix reads "192.0.2.0/24" or one address.
func prefix(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil {
		return a.Prefix(a.BitLen())
	}
	p, err := netip.ParsePrefix(text)
	return p.Masked(), err
}

// Looked is what one pass over a file found.
type Looked struct {
	ledger.Inspection
	enrich.Result // empty where indicators are not wanted
}

// Look reads an open file from its beginning, once: for its digests, its packets
// and its indicators. Its errors are those of inspect.File.
func (c *InspectConfig) Look(ctx context.Context, f *os.File, onRead func(int64)) (Looked, error) {
	if !c.Indicators { // and Sightings says so by being nil
		in, err := inspect.File(ctx, f, inspect.Observer{Read: onRead})
		return Looked{Inspection: in}, err
	}
	return LookAt(ctx, f, inspect.Observer{Read: onRead}, nil)
}

// LookAt is Look with indicators of those packets only that pass, where pass is
// not nil; the others are counted.
func LookAt(ctx context.Context, f *os.File, o inspect.Observer, pass func(*pcapio.Packet) bool) (Looked, error) {
	a := enrich.New()
	o.Packet = func(p *pcapio.Packet) {
		if pass == nil || pass(p) {
			a.Packet(p)
		} else {
			a.Skip()
		}
	}
	in, err := inspect.File(ctx, f, o)
	l := Looked{in, a.Close()}
	l.Inspection.Summary = l.Result.Summary.Text()
	return l, err
}
