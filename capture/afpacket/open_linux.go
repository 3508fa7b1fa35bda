package afpacket

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"capagent/capture"
	"capagent/capture/filter"
	"capagent/internal/packet"
)

// Bounds of Options.
const (
	maxFanout = 64
	minRetire = time.Millisecond
	maxRetire = 10 * time.Second
)

// permissionHint is what makes captures possible for who may not.
const permissionHint = `allow it with: sudo setcap cap_net_raw+ep "$(readlink -f "$(command -v capagent)")", or run as root`

// compiler makes the program for a link.
type compiler func(ctx context.Context, expr string, o filter.Options) ([]bpf.RawInstruction, error)

// Open begins to capture in the network namespace of its thread; the thread
// that reads must be in the same one. Who may not capture gets an error that
// wraps fs.ErrPermission, a name of no interface one that wraps fs.ErrNotExist.
// An interface that is down is opened, and captured from once it is up.
func Open(ctx context.Context, o capture.Options) (capture.Source, error) {
	return open(ctx, o, compile)
}

func compile(ctx context.Context, expr string, o filter.Options) ([]bpf.RawInstruction, error) {
	if expr == "" {
		return []bpf.RawInstruction{{Op: unix.BPF_RET | unix.BPF_K, K: o.SnapLen}}, nil
	}
	p, err := filter.Compile(ctx, expr, o)
	if err != nil {
		return nil, err
	}
	return p.Raw(), nil
}

func open(ctx context.Context, o capture.Options, compile compiler) (_ capture.Source, err error) {
	if o, err = checked(o); err != nil {
		return nil, err
	}
	s := &source{o: o, ctx: ctx, compile: compile, restAfter: restAfter}
	defer func() {
		if err != nil {
			_ = s.Close()
		}
	}()
	if s.links, err = openLinks(); err != nil {
		return nil, err
	}
	if s.wake, err = newWaker(ctx); err != nil {
		return nil, err
	}
	for _, name := range o.Interfaces {
		p := &port{configured: name, seen: time.Now()}
		l, err := s.links.byName(name)
		if err == nil {
			err = s.fit(p, l)
		}
		if err == nil {
			err = s.openPort(p, l)
		}
		if err != nil {
			return nil, explained(name, err)
		}
		p.name, p.counted = l.name, l.packets
		s.ports = append(s.ports, p)
	}
	if o.Own != nil {
		s.unwatch = o.Own.Watch(s.leaveOut)
	}
	return s, nil
}

// checked is o with its defaults.
func checked(o capture.Options) (capture.Options, error) {
	names := o.Interfaces
	switch {
	case len(names) == 0:
		return o, errors.New("no interface to capture from was named")
	case slices.Contains(names, anyName) && len(names) > 1:
		return o, errors.New(`"any" is all interfaces: it stands alone`)
	case o.Fanout < 0 || o.Fanout > maxFanout:
		return o, fmt.Errorf("fanout %d: 0 to %d rings", o.Fanout, maxFanout)
	case o.Buffer < 0:
		return o, fmt.Errorf("buffer of %d bytes", o.Buffer)
	case o.Retire < 0 || o.Retire > maxRetire:
		return o, fmt.Errorf("retire time %v: up to %v", o.Retire, maxRetire)
	}
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			return o, fmt.Errorf("interface %q is named twice", name)
		}
	}
	o.Interfaces = slices.Clone(names)
	o.Fanout = max(o.Fanout, 1)
	if o.SnapLen == 0 || o.SnapLen > capture.MaxSnapLen {
		o.SnapLen = capture.MaxSnapLen
	}
	if o.Buffer == 0 {
		o.Buffer = capture.DefaultBuffer
	}
	if o.Retire == 0 {
		o.Retire = capture.DefaultRetire
	}
	o.Retire = max(o.Retire, minRetire)
	if o.Blind == 0 {
		o.Blind = capture.DefaultBlind
	}
	if most := maxBuffer(); o.Buffer > most {
		return o, fmt.Errorf("buffer of %d MiB: this machine can give %d MiB at most", o.Buffer>>20, most>>20)
	}
	return o, nil
}

// maxBuffer is half of the memory and of the addresses: the kernel would give
// away all that it has, which nothing can swap out, before it refused.
func maxBuffer() int64 {
	most := uint64(math.MaxInt / 2)
	var i unix.Sysinfo_t
	if unix.Sysinfo(&i) == nil {
		most = min(most, uint64(i.Totalram)*uint64(i.Unit)/2) //nolint:unconvert // 32 bits on some machines
	}
	return int64(most)
}

// errNoInterface is fs.ErrNotExist in better words.
var errNoInterface error = noInterface{}

type noInterface struct{}

func (noInterface) Error() string        { return "no such interface" }
func (noInterface) Is(target error) bool { return target == fs.ErrNotExist }

// explained says what can be done about err.
func explained(name string, err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("capture from %q: %w; %s", name, err, permissionHint)
	case errors.Is(err, unix.ENODEV):
		return fmt.Errorf("capture from %q: %w; there are: %s", name, errNoInterface, existing())
	default:
		return fmt.Errorf("capture from %q: %w", name, err)
	}
}

// fit makes p's program one for l. It is not compiled anew for another link of
// the same type, as that may ask name servers.
func (s *source) fit(p *port, l link) error {
	if p.program != nil && p.fits == l.linkType {
		return nil
	}
	program, err := s.program(l)
	if err == nil {
		p.program, p.fits = program, l.linkType
	}
	return err
}

// openPort opens l's rings for p, which fits, and adds them to the source.
func (s *source) openPort(p *port, l link) error {
	rings, err := s.openRings(l)
	if err != nil {
		return err
	}
	iface := s.ifaceFor(p, l)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range rings {
		r.iface = iface
		r.base = p.program
		if err := r.use(r.base, s.flows); err != nil {
			for _, r := range rings {
				r.close()
			}
			return err
		}
	}
	p.link, p.rings = l, rings
	s.rings = append(slices.Clip(s.rings), rings...)
	return nil
}

// program compiles the filter for l.
func (s *source) program(l link) ([]bpf.RawInstruction, error) {
	o := filter.Options{LinkType: l.linkType, Target: filter.Live, SnapLen: s.o.SnapLen}
	if l.cooked() {
		o.Target = filter.LiveCooked
		o.SnapLen = uint32(max(int(o.SnapLen)-sllLen, 1)) // the header is ours
	}
	if !l.any() {
		o.Netmask, o.HasMask = netmaskOf(l.name)
	}
	return s.compile(s.ctx, s.o.Filter, o)
}

// openRings opens the rings that share l.
func (s *source) openRings(l link) (rings []*ring, err error) {
	c := ringConfig{
		size: s.o.Buffer / int64(len(s.o.Interfaces)*s.o.Fanout), retire: s.o.Retire,
		snap: int(s.o.SnapLen), promisc: !s.o.NoPromisc, socket: s.o.Socket,
	}
	defer func() {
		if err != nil {
			for _, r := range rings {
				r.close()
			}
		}
	}()
	group := noGroup
	for range s.o.Fanout {
		r, err := openRing(l, c)
		if err != nil {
			return rings, err
		}
		rings = append(rings, r)
		if s.o.Fanout == 1 {
			break
		}
		if group, err = r.join(group); err != nil {
			return rings, err
		}
	}
	return rings, nil
}

// ifaceFor is the number of what p brings from l on: its last one where only
// names and addresses changed, else a new one.
func (s *source) ifaceFor(p *port, l link) uint32 {
	d := s.links.describe(l, s.o.Filter, s.o.SnapLen)
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.known && s.ifaces[p.iface].LinkType == d.LinkType {
		s.ifaces[p.iface] = d
		return p.iface
	}
	p.iface, p.known = uint32(len(s.ifaces)), true
	s.ifaces = append(s.ifaces, d)
	s.stats = append(s.stats, packet.Stats{})
	return p.iface
}
