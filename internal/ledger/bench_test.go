package ledger

import (
	"os"
	"strconv"
	"testing"
)

// BenchmarkRegister20000 registers 20,000 captures in batches of 500.
func BenchmarkRegister20000(b *testing.B) {
	for b.Loop() {
		l := open(b, newPath(b), Options{})
		fill(b, l, 20000)
	}
}

func fill(t testing.TB, l *Ledger, n int) {
	for i := 0; i < n; i += 500 {
		var batch []Found
		for j := i; j < min(i+500, n); j++ {
			batch = append(batch, found("/evidence/host-17/2025-03-04/capture-"+strconv.Itoa(j)+".pcap", strconv.Itoa(j)))
		}
		register(t, l, batch...)
	}
}

// BenchmarkBeginFinish is one capture's way: two durable commits.
func BenchmarkBeginFinish(b *testing.B) {
	l := open(b, newPath(b), Options{})
	fill(b, l, 20000)
	id := int64(0)
	for b.Loop() {
		id++
		mustClaim(b, l, id, "cloudshark")
		ok(b, l.Finish(b.Context(), id, "cloudshark", Result{SessionID: strconv.FormatInt(id, 16)}, Done))
	}
}

// BenchmarkOpen100000 opens a ledger of 100,000 rows, checks included.
func BenchmarkOpen100000(b *testing.B) {
	path := newPath(b)
	l := open(b, path, Options{})
	fill(b, l, 100000)
	ok(b, l.Close())
	info, err := os.Stat(path)
	ok(b, err)
	b.Run("Open", func(b *testing.B) {
		for b.Loop() {
			l := open(b, path, Options{})
			ok(b, l.Close())
		}
		b.ReportMetric(float64(info.Size())/1e6, "MB")
	})
	l = open(b, path, Options{})
	b.Run("Counts", func(b *testing.B) {
		for b.Loop() {
			_, err := l.Counts(b.Context())
			ok(b, err)
		}
	})
	b.Run("List", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			n := 0
			for _, err := range l.List(b.Context(), Filter{States: []State{Queued, Held}}) {
				ok(b, err)
				n++
			}
			if n != 100000 {
				b.Fatal(n)
			}
		}
	})
}
