package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// hostile are the names that every tree holds some of; %d is the file's number.
// Unix allows any byte in a name except the slash and zero.
var hostile = []string{
	"new\nline %d.pcap",
	"escape \x1b[2J\x1b[31m %d.pcap",
	"invalid \xff\xfe\xc3 %d.pcap",
	"-rf %d.pcap",
	"  spaces  %d .pcap",
	`"double" 'single' %d.pcap`,
	"$(touch owned) `id`; %d.pcap",
	`back\slash %d.pcap`,
	"percent %%s%%n %d.pcap",
	"\u202egnp.cap %d.pcap", // right-to-left override
	"<img src=x> & %d.pcap",
	"bell \a\b\r\t %d.pcap",
	"composed \u00e9 e\u0301 %d.pcap",
	"UPPER %d.PCAP",
	"..%d.pcap",
}

// hostileDirs are the names of some folders.
var hostileDirs = []string{"-name%04d", "two\nlines %04d", "%04d trailing ", "\xff%04d", "it's %04d"}

const (
	perDir       = 25
	everyHostile = 20 // one name in so many is hostile
	longest      = 255
)

// writeTree writes n distinct captures of one to eight packets below dir. It
// returns how many hostile names the file system refused.
func writeTree(dir string, n int, seed uint64) (refused int, err error) {
	source := noise(seed)
	var folder string
	var data []byte
	for i := range n {
		if i%perDir == 0 {
			var r bool
			if folder, r, err = makeFolder(dir, i/perDir); err != nil {
				return refused, err
			} else if r {
				refused++
			}
		}
		data = appendFileHeader(data[:0])
		for p := range 1 + i%8 {
			at := len(data)
			data = appendPacket(data, 60+i%200, source)
			number(data[at:], uint64(i)<<8|uint64(p))
		}
		name, plain := fileName(i), fmt.Sprintf("capture-%06d.pcap", i)
		if err = os.WriteFile(filepath.Join(folder, name), data, 0o644); err != nil && name != plain {
			refused++
			err = os.WriteFile(filepath.Join(folder, plain), data, 0o644)
		}
		if err != nil {
			return refused, err
		}
	}
	return refused, nil
}

// fileName returns the name of file i: mostly a plain one.
func fileName(i int) string {
	if i%everyHostile != 0 {
		return fmt.Sprintf("capture-%06d.pcap", i)
	}
	kind := i / everyHostile % (len(hostile) + 1)
	if kind < len(hostile) {
		return fmt.Sprintf(hostile[kind], i)
	}
	end := fmt.Sprintf(" %d.pcap", i)
	return strings.Repeat("n", longest-len(end)) + end
}

// makeFolder makes folder k, up to four levels deep; some have hostile names.
func makeFolder(dir string, k int) (path string, refused bool, err error) {
	path = dir
	for level := range k % 4 {
		path = filepath.Join(path, fmt.Sprintf("level-%d", level))
	}
	plain := filepath.Join(path, fmt.Sprintf("folder-%04d", k))
	if k%everyHostile != everyHostile-1 {
		return plain, false, os.MkdirAll(plain, 0o755)
	}
	path = filepath.Join(path, fmt.Sprintf(hostileDirs[k/everyHostile%len(hostileDirs)], k))
	if os.MkdirAll(path, 0o755) == nil {
		return path, false, nil
	}
	return plain, true, os.MkdirAll(plain, 0o755)
}
