package capturing

import (
	"capagent/capture"
	"capagent/internal/ledger"
	"capagent/internal/pcapio"
)

// Live is what the ledger keeps of r.
func (r Result) Live() *ledger.Live {
	l := &ledger.Live{Began: r.Began.UTC(), Ended: r.Began.Add(r.Took).UTC(), Reason: string(r.End)}
	for i, known := range r.Interfaces[:min(len(r.Interfaces), ledger.MaxLive)] {
		one := ledger.LiveInterface{Name: known.Name, LinkType: pcapio.LinkTypeName(known.LinkType), Filter: known.Filter, SnapLen: known.SnapLen}
		if i < len(r.Stats) {
			one.Received, one.Dropped = r.Stats[i].Received, r.Stats[i].Dropped
		}
		l.Interfaces = append(l.Interfaces, one)
	}
	for _, n := range r.Stats {
		l.Received, l.Dropped = l.Received+n.Received, l.Dropped+n.Dropped
	}
	for _, e := range r.Gaps[:min(len(r.Gaps), ledger.MaxLive)] {
		l.Gaps = append(l.Gaps, ledger.LiveGap{Interface: e.Interface, From: e.Time.Add(-e.Gap).UTC(), To: e.Time.UTC(), Cause: string(capture.Gone)})
	}
	return l
}
