package afpacket_test

import (
	"context"
	"errors"
	"io"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"capagent/capture"
	"capagent/capture/afpacket"
	"capagent/internal/packet"
	"capagent/internal/traffic"
)

// BenchmarkWalk measures what reading costs when the packets are there: a ring
// is filled while nobody reads, and then read.
func BenchmarkWalk(b *testing.B) {
	for _, size := range []int{64, 512, 1500} {
		for name, tags := range map[string][]traffic.Tag{"plain": nil, "vlan": {{TCI: 7}}} {
			b.Run(name+"/"+map[int]string{64: "64", 512: "512", 1500: "1500"}[size], func(b *testing.B) {
				p := newPair(b, traffic.Options{})
				var packets uint64
				var spent, cpu time.Duration
				allocs := 0.0
				for b.Loop() {
					n, d, c, a := fillAndWalk(b, p, traffic.Load{Size: size, Tags: tags, Count: 60 << 20 / uint64(size+200)})
					packets, spent, cpu, allocs = packets+n, spent+d, cpu+c, a
				}
				b.ReportMetric(float64(spent)/float64(packets), "ns/pkt")
				b.ReportMetric(float64(cpu)/float64(packets), "cpu-ns/pkt")
				b.ReportMetric(allocs, "allocs/read")
			})
		}
	}
}

func fillAndWalk(b *testing.B, p *traffic.Pair, l traffic.Load) (packets uint64, spent, cpu time.Duration, allocs float64) {
	err := p.Do(traffic.RX, func() error {
		src, err := afpacket.Open(context.Background(), capture.Options{Interfaces: []string{"vethrx"}})
		if err != nil {
			return err
		}
		defer src.Close()
		sent := send(b, p, l)
		batch := make([]packet.Packet, 512)
		var reads int
		var mem [2]runtime.MemStats
		runtime.ReadMemStats(&mem[0])
		begun, before := time.Now(), threadTime()
		for packets < sent.Packets*95/100 { // the rest is in an open block
			n, err := src.Read(batch)
			if errors.Is(err, io.EOF) || n == 0 {
				break
			}
			reads++
			packets += uint64(n)
		}
		spent, cpu = time.Since(begun), threadTime()-before
		runtime.ReadMemStats(&mem[1])
		allocs = float64(mem[1].Mallocs-mem[0].Mallocs) / float64(reads)
		if st := src.Stats()[0]; st.Dropped > 0 || packets < sent.Packets*9/10 {
			b.Fatalf("%d of %d packets: %+v", packets, sent.Packets, st)
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	return packets, spent, cpu, allocs
}

func threadTime() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts)
	return time.Duration(ts.Nano())
}

// BenchmarkFlood reads while the sender sends as fast as it can, each on a
// processor of its own, and tells what was lost and what reading cost.
func BenchmarkFlood(b *testing.B) {
	for name, c := range map[string]struct {
		load   traffic.Load
		iface  string
		fanout int
	}{
		"64":       {load: traffic.Load{Size: 64}},
		"512":      {load: traffic.Load{Size: 512}},
		"1500":     {load: traffic.Load{Size: 1500}},
		"xdp/64":   {load: traffic.Load{Size: 64, XDP: true}},
		"xdp/1500": {load: traffic.Load{Size: 1500, XDP: true}},
		"fanout/2": {load: traffic.Load{Size: 64}, fanout: 2},
		"any/64":   {load: traffic.Load{Size: 64}, iface: "any"},
		"vlan/64":  {load: traffic.Load{Size: 64, Tags: []traffic.Tag{{TCI: 5}}}},
	} {
		b.Run(name, func(b *testing.B) {
			p := newPair(b, traffic.Options{})
			c.load.Duration, c.load.CPUs = 3*time.Second, []int{0}
			o := capture.Options{Interfaces: []string{"vethrx"}, Fanout: c.fanout}
			if c.iface != "" {
				o.Interfaces[0] = c.iface
			}
			for b.Loop() {
				flood(b, p, c.load, o)
			}
		})
	}
}

func flood(b *testing.B, p *traffic.Pair, l traffic.Load, o capture.Options) {
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	opened, done := make(chan error), make(chan error)
	var packets, reads uint64
	var cpu time.Duration
	var st packet.Stats
	go func() {
		done <- p.Do(traffic.RX, func() error {
			var set unix.CPUSet
			set.Set(1)
			_ = unix.SchedSetaffinity(0, &set)
			src, err := afpacket.Open(ctx, o)
			opened <- err
			if err != nil {
				return nil
			}
			defer src.Close()
			batch := make([]packet.Packet, 512)
			before := threadTime()
			for {
				n, err := src.Read(batch)
				packets += uint64(n)
				reads++
				if err != nil {
					cpu, st = threadTime()-before, src.Stats()[0]
					return nil
				}
			}
		})
	}()
	if err := <-opened; err != nil {
		b.Fatal(err)
	}
	sent := send(b, p, l)
	cancel()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	if st.Received != packets || packets+st.Dropped != sent.Packets {
		b.Errorf("sent %d, %d came, %+v", sent.Packets, packets, st)
	}
	b.ReportMetric(float64(cpu)/float64(packets), "cpu-ns/pkt")
	b.ReportMetric(sent.Rate()/1e3, "kpps")
	b.ReportMetric(float64(st.Dropped)/float64(sent.Packets)*100, "lost%")
	b.ReportMetric(float64(packets)/float64(reads), "pkt/read")
}
