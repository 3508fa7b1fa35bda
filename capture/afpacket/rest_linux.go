package afpacket

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// restAfter is for how long a ring stays mapped into which nothing comes. What is
// mapped counts as memory of the process, and in most hours of most interfaces there
// is nothing in it. The kernel goes on to fill its ring while nobody has it mapped, and
// poll tells of it, so nothing is lost by that; mapping 64 MiB again takes milliseconds.
const restAfter = 10 * time.Second

// rest unmaps rings that nobody looks into.
func (s *source) rest(now time.Time) {
	for _, r := range s.rings {
		switch {
		case r.mem == nil || r.left > 0 || r.spent:
		case r.quiet.IsZero():
			r.quiet = now
		case now.Sub(r.quiet) >= s.restAfter:
			_ = unix.Munmap(r.mem)
			r.mem, r.walk = nil, nil
		}
	}
}

// wake maps a ring again in which something is.
func (r *ring) wake() error {
	r.quiet = time.Time{}
	if r.mem != nil {
		return nil
	}
	return r.mapMemory()
}

func (r *ring) mapMemory() error {
	mem, err := unix.Mmap(r.fd, 0, r.block*r.blocks, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return fmt.Errorf("mmap of %d MiB: %w", r.block*r.blocks>>20, err)
	}
	r.mem = mem
	return nil
}
