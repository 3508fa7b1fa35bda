package pcapio_test

import (
	"bytes"
	"capagent/internal/pcapio"
	"errors"
	"io"
	"testing"
)

// readFile reads a file as a program would, unwrapped, and shows each packet.
func readFile(r io.Reader, budget pcapio.Budget, see func(*pcapio.Packet)) error {
	p, err := pcapio.Unwrap(r, budget)
	if err != nil {
		return err
	}
	defer p.Close()
	rd, err := pcapio.NewReader(p)
	if err != nil {
		return err
	}
	var pkt pcapio.Packet
	for {
		if err := rd.Next(&pkt); err != nil {
			return err
		}
		see(&pkt)
	}
}

// readAll keeps a copy of every packet.
func readAll(data []byte) (packets []pcapio.Packet, end error) {
	end = readFile(bytes.NewReader(data), pcapio.Budget{}, func(p *pcapio.Packet) {
		kept := *p
		kept.Data = bytes.Clone(p.Data)
		packets = append(packets, kept)
	})
	return packets, end
}

var sentinels = map[string]error{cut: pcapio.ErrTruncated, bad: pcapio.ErrFormat, foreign: pcapio.ErrNotCapture, over: pcapio.ErrOverBudget}

func checkEnd(t *testing.T, end error, want string) {
	t.Helper()
	if want == "" {
		if !errors.Is(end, io.EOF) {
			t.Errorf("ends with %v, want a clean end", end)
		}
		return
	}
	if !errors.Is(end, sentinels[want]) {
		t.Errorf("ends with %v, want %q", end, want)
	}
}

func TestCorpusIsReadAsStated(t *testing.T) {
	for _, c := range corpus() {
		t.Run(c.name, func(t *testing.T) {
			packets := int64(0)
			end := readFile(bytes.NewReader(c.data), pcapio.Budget{}, func(*pcapio.Packet) { packets++ })
			if packets != c.packets {
				t.Errorf("%d packets, want %d (%v)", packets, c.packets, end)
			}
			checkEnd(t, end, c.end)
		})
	}
}
