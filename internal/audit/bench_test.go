package audit

import (
	"fmt"
	"testing"

	"capagent/internal/ledger"
)

// BenchmarkDrain moves the events of 2,000 registered captures into the log.
func BenchmarkDrain(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		d := newDesk(b, Options{})
		var found []ledger.Found
		for i := range 2000 {
			found = append(found, ledger.Found{
				Source: "import", Path: fmt.Sprintf("/evidence/host-17/capture-%d.pcap", i), Destination: "https://c", State: ledger.Queued,
				Inspection: ledger.Inspection{SHA256: genesis, SHA1: genesis[:40]},
			})
		}
		_, err := d.ledger.Register(b.Context(), found)
		ok(b, err)
		b.StartTimer()
		ok(b, d.Drain(b.Context()))
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/2000, "µs/event")
}
