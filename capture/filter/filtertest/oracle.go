package filtertest

import (
	"bufio"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/net/bpf"
)

// Mode is the kind of handle that libpcap compiles for. It decides little: VLAN
// tags on Linux, directions, the byte order of DLT_NULL.
type Mode byte

// The modes.
const (
	Dead    Mode = 'd' // none, as in tcpdump -y DLT -ddd
	File    Mode = 'f' // a capture file written by a machine like this one
	Swapped Mode = 's' // one written by a machine of the other byte order
	Live    Mode = 'l' // lo, or any for LINUX_SLL and LINUX_SLL2; as root
)

// Query is what libpcap is asked to compile.
type Query struct {
	Expr     string
	LinkType int // LINKTYPE_ number
	Mode     Mode
	SnapLen  uint32 // 0: 262144
	Netmask  uint32 // as filter.Options
	HasMask  bool
	Plain    bool // without its optimiser
}

// Refused is libpcap's answer to an expression that it doesn't compile.
type Refused struct{ Text string }

func (e *Refused) Error() string { return "libpcap: " + e.Text }

// answerTime is how long an answer may take. Some expressions make libpcap's
// optimiser run for very long.
const answerTime = 20 * time.Second

//go:embed testdata/libpcap.c
var helperSource []byte

// Oracle asks libpcap, in a process of its own. One goroutine uses it.
type Oracle struct {
	Version string
	ctx     context.Context // ends the helper
	program string
	cmd     *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
}

// NewOracle builds the helper in dir and starts it. library is the file of a
// libpcap; "": the system's. The C compiler cc must be there.
func NewOracle(ctx context.Context, dir, library string) (*Oracle, error) {
	src, bin := filepath.Join(dir, "libpcap.c"), filepath.Join(dir, "libpcap")
	if err := os.WriteFile(src, helperSource, 0o600); err != nil {
		return nil, err
	}
	link := []string{"-l:libpcap.so.0.8"}
	if library != "" {
		link = []string{library, "-Wl,-rpath," + filepath.Dir(library)}
	}
	cc := exec.CommandContext(ctx, "cc", append([]string{"-O1", "-o", bin, src}, link...)...) //nolint:gosec // a test's own files
	if out, err := cc.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("cc %s: %w: %s", src, err, out)
	}
	o := &Oracle{ctx: ctx, program: bin}
	return o, o.start()
}

func (o *Oracle) start() error {
	o.cmd = exec.CommandContext(o.ctx, o.program) //nolint:gosec // the one just built
	o.cmd.Stderr = os.Stderr
	in, err := o.cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := o.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := o.cmd.Start(); err != nil {
		return err
	}
	o.in, o.out = in, bufio.NewReaderSize(out, 1<<16)
	version, err := o.out.ReadString('\n')
	o.Version = strings.TrimSpace(version)
	return err
}

// Close ends the helper.
func (o *Oracle) Close() error {
	_ = o.in.Close()
	return o.cmd.Wait()
}

// Compile returns libpcap's program for q, or a *Refused. Any other error is
// libpcap's own failure at the expression: it crashed, or took too long.
func (o *Oracle) Compile(q Query) ([]bpf.RawInstruction, error) {
	cmd := o.cmd
	timer := time.AfterFunc(answerTime, func() { _ = cmd.Process.Kill() })
	prog, err := o.ask(q)
	timer.Stop()
	var refused *Refused
	if err == nil || errors.As(err, &refused) {
		return prog, err
	}
	_ = o.cmd.Process.Kill()
	_ = o.Close()
	if again := o.start(); again != nil {
		return nil, again
	}
	return nil, fmt.Errorf("libpcap %q: %w", q.Expr, err)
}

func (o *Oracle) ask(q Query) ([]bpf.RawInstruction, error) {
	snapLen, mask, optimise := q.SnapLen, uint32(0xffffffff), 1
	if snapLen == 0 {
		snapLen = 262144
	}
	if q.HasMask {
		mask = q.Netmask
	}
	if q.Plain {
		optimise = 0
	}
	if _, err := fmt.Fprintf(o.in, "%c %d %d %d %d %d\n%s", q.Mode, dlt(q.LinkType), snapLen, mask, optimise,
		len(q.Expr), q.Expr); err != nil {
		return nil, err
	}
	line, err := o.out.ReadString('\n')
	if err != nil {
		return nil, err
	}
	if text, no := strings.CutPrefix(line, "no "); no {
		return nil, &Refused{strings.TrimSpace(text)}
	}
	var n int
	if _, err := fmt.Sscanf(line, "ok %d", &n); err != nil {
		return nil, errors.New(strings.TrimSpace(line))
	}
	prog := make([]bpf.RawInstruction, n)
	for i := range prog {
		if err := readInstruction(o.out, &prog[i]); err != nil {
			return nil, err
		}
	}
	return prog, nil
}

// readInstruction reads a line of four numbers.
func readInstruction(r *bufio.Reader, i *bpf.RawInstruction) error {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return err
	}
	var n [4]uint32
	at := 0
	for _, c := range line[:len(line)-1] {
		switch {
		case c == ' ' && at < 3:
			at++
		case c >= '0' && c <= '9':
			n[at] = n[at]*10 + uint32(c-'0')
		default:
			return fmt.Errorf("no instruction: %q", line)
		}
	}
	*i = bpf.RawInstruction{Op: uint16(n[0]), Jt: uint8(n[1]), Jf: uint8(n[2]), K: n[3]}
	return nil
}

// dlt is the number that libpcap has on Linux for a LINKTYPE_.
func dlt(linkType int) int {
	if linkType == LinkRaw {
		return 12
	}
	return linkType
}

// Tcpdump is the program that `tcpdump -y DLT -ddd` prints for expr.
func Tcpdump(ctx context.Context, linkType int, expr string) ([]bpf.RawInstruction, error) {
	cmd := exec.CommandContext(ctx, "tcpdump", "-y", LinkName(linkType), "-ddd", expr) //nolint:gosec // an argument, no shell
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, &Refused{strings.TrimSpace(stderr.String())}
	}
	lines := bufio.NewReader(strings.NewReader(string(out)))
	var n int
	if _, err := fmt.Fscanln(lines, &n); err != nil {
		return nil, err
	}
	prog := make([]bpf.RawInstruction, n)
	for i := range prog {
		if err := readInstruction(lines, &prog[i]); err != nil {
			return nil, err
		}
	}
	return prog, nil
}
