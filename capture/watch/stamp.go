package watch

import (
	"fmt"
	"hash/maphash"
	"io/fs"
	"path/filepath"
	"strings"
)

// Stamp is what cheaply tells that a file is still what it was: size, times of
// change and of the entry's change in ns, inode and number of names, as far as
// the system has them. It is opaque text, "" for none. The device is left out:
// its number changes when a volume is mounted anew, and the other values tell
// files of two volumes apart.
type Stamp string

// StampOf returns the stamp of a regular file.
func StampOf(info fs.FileInfo) Stamp { return factsOf(info).stamp() }

// facts are a stamp in numbers.
type facts struct {
	size, modified, changed int64
	inode, links            uint64 // 0 where the system doesn't say
}

func (f facts) stamp() Stamp {
	return Stamp(fmt.Sprintf("%d.%d.%d.%d.%d", f.size, f.modified, f.changed, f.inode, f.links))
}

// memory is what is remembered of each file that was handed over: two hashes,
// since a folder may hold very many. Two paths of one hash would only be handed
// over more than once. It belongs to one goroutine.
type memory struct {
	seed  maphash.Seed
	round uint32 // of the scan that is under way or was last
	files map[uint64]record
	told  map[uint64]uint32 // refusals and the round in which they were last met
}

type record struct {
	print uint64
	round uint32
	inode uint32 // its lower half
}

func newMemory() *memory {
	return &memory{seed: maphash.MakeSeed(), files: map[uint64]record{}, told: map[uint64]uint32{}}
}

func (m *memory) hash(f facts) uint64    { return maphash.Comparable(m.seed, f) }
func (m *memory) key(path string) uint64 { return maphash.String(m.seed, path) }

// keyIn is key of a name in dir, without building the path.
func (m *memory) keyIn(dir, name string) uint64 {
	var h maphash.Hash
	h.SetSeed(m.seed)
	_, _ = h.WriteString(dir)
	if !strings.HasSuffix(dir, string(filepath.Separator)) {
		_ = h.WriteByte(filepath.Separator)
	}
	_, _ = h.WriteString(name)
	return h.Sum64()
}

// handled reports whether the file with that key was handed over as it is.
func (m *memory) handled(key, print uint64) bool {
	r, ok := m.files[key]
	if ok && r.round != m.round {
		r.round = m.round
		m.files[key] = r
	}
	return ok && r.print == print
}

func (m *memory) keep(key uint64, f facts) {
	m.files[key] = record{m.hash(f), m.round, uint32(f.inode)}
}

func (m *memory) forget(key uint64) { delete(m.files, key) }

// tell reports whether that refusal is new.
func (m *memory) tell(path, reason string) bool {
	key := m.key(path + "\x00" + reason)
	_, old := m.told[key]
	m.told[key] = m.round
	return !old
}

// met keeps a refusal, if there was one, from being forgotten.
func (m *memory) met(path, reason string) {
	key := m.key(path + "\x00" + reason)
	if _, ok := m.told[key]; ok {
		m.told[key] = m.round
	}
}

// sweep forgets what the scan of this round has not met.
func (m *memory) sweep() {
	for key, r := range m.files {
		if r.round != m.round {
			delete(m.files, key)
		}
	}
}

// sweepTold does so with the refusals. Everything found must have been looked at.
func (m *memory) sweepTold() {
	for key, round := range m.told {
		if round != m.round {
			delete(m.told, key)
		}
	}
}
