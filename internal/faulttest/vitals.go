//go:build linux

package faulttest

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Vitals are what a process uses at one moment.
type Vitals struct {
	RSS        int64 // bytes of memory of its own, without mapped files
	Files      int   // open descriptors
	Threads    int
	Goroutines int           // the most that ever lived at one time
	CPU        time.Duration // used so far
}

// Vitals looks at the child from outside.
func (p *Process) Vitals() (Vitals, error) {
	var v Vitals
	dir := fmt.Sprintf("/proc/%d", p.PID())
	status, err := os.ReadFile(dir + "/status")
	if err != nil {
		return v, err
	}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		n, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)
		switch name {
		case "RssAnon":
			v.RSS = n << 10
		case "Threads":
			v.Threads = int(n)
		}
	}
	files, err := os.ReadDir(dir + "/fd")
	if err != nil {
		return v, err
	}
	v.Files = len(files)
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return v, err
	}
	_, rest, _ := bytes.Cut(stat, []byte(") "))
	if fields := strings.Fields(string(rest)); len(fields) > 12 {
		user, _ := strconv.ParseInt(fields[11], 10, 64)
		system, _ := strconv.ParseInt(fields[12], 10, 64)
		v.CPU = time.Duration(user+system) * (time.Second / 100) // USER_HZ
	}
	v.Goroutines, err = p.goroutines()
	return v, err
}

// goroutines reads runtime.allglen, which counts the goroutines that there are
// and those that ended and wait to be used again: it stays as it is exactly when
// none leak.
func (p *Process) goroutines() (int, error) {
	p.mu.Lock()
	at := p.allglen
	p.mu.Unlock()
	if at == 0 {
		var err error
		if at, err = symbol(fmt.Sprintf("/proc/%d/exe", p.PID()), "runtime.allglen"); err != nil {
			return 0, err
		}
		p.mu.Lock()
		p.allglen = at
		p.mu.Unlock()
	}
	memory, err := os.Open(fmt.Sprintf("/proc/%d/mem", p.PID()))
	if err != nil {
		return 0, err
	}
	defer memory.Close()
	var n [8]byte
	if _, err := memory.ReadAt(n[:], int64(at)); err != nil {
		return 0, err
	}
	return int(binary.NativeEndian.Uint64(n[:])), nil
}

// symbol returns the address of a variable in a program that was not stripped.
func symbol(program, name string) (uint64, error) {
	f, err := elf.Open(program)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	all, err := f.Symbols()
	if err != nil {
		return 0, fmt.Errorf("%s: %w", program, err)
	}
	for _, s := range all {
		if s.Name == name {
			return s.Value, nil
		}
	}
	return 0, fmt.Errorf("%s: no symbol %s", program, name)
}
