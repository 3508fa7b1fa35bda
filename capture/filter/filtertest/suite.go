package filtertest

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/net/bpf"

	"capagent/internal/pcapio"
)

// SuiteTest is a test of libpcap's own suite (testprogs/TESTrun).
type SuiteTest struct {
	Kind     string // accept, apply, reject or skip
	Label    string
	DLT      string
	Expr     string
	Skip     string
	SnapLen  flexInt
	Netmask  string
	Optimize flexInt
	LinuxExt flexInt
	Offline  string `json:"generate_offline_filter"` // unswapped, swapped
	Expected string
	SaveFile string
}

// flexInt is a number that Perl may print as a string, or nothing.
type flexInt int

func (n *flexInt) UnmarshalJSON(b []byte) error {
	s := strings.Trim(string(b), `"`)
	if s == "" || s == "null" || s == "false" {
		return nil
	}
	v, err := strconv.Atoi(s)
	*n = flexInt(v)
	return err
}

//go:embed testdata/suite.pl
var suiteTail []byte

// Suite reads the suite of the libpcap sources in dir; it runs the lists of
// TESTrun in Perl, in work. Where names is a folder, lines are added to its files
// hosts, ethers and networks that the tests' names need.
func Suite(ctx context.Context, dir, work, names string) ([]SuiteTest, error) {
	for _, name := range []string{"TESTlib.pm", "TESTst.pm", "TESTmt.pm", "TESTrun"} {
		b, err := os.ReadFile(filepath.Join(dir, "testprogs", name))
		if err != nil {
			return nil, err
		}
		if name == "TESTrun" {
			lists, _, found := bytes.Cut(b, []byte("\nif (! scalar @ready_to_run) {"))
			if !found {
				return nil, errors.New("TESTrun isn't as it was: no end of its lists")
			}
			b = append(append(lists, '\n'), suiteTail...)
		}
		if err := os.WriteFile(filepath.Join(work, name), b, 0o600); err != nil { //nolint:gosec // one of the four names above
			return nil, err
		}
	}
	config := filepath.Join(work, "config.h")
	if err := os.WriteFile(config, []byte("#define HAVE_DECL_SKF_AD_VLAN_TAG_PRESENT 1\n#define HAVE_GLIBC 1\n"), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "perl", filepath.Join(work, "TESTrun"), "--skipped") //nolint:gosec // a test's own file
	cmd.Env = append(os.Environ(), "CONFIG_H="+config, "FILTERTEST_NAMES="+names)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("perl TESTrun: %w: %s", err, stderr.String())
	}
	var tests []SuiteTest
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var t SuiteTest
		if err := dec.Decode(&t); errors.Is(err, io.EOF) {
			return tests, nil
		} else if err != nil {
			return nil, err
		}
		tests = append(tests, t)
	}
}

// LinkByName is the link type that libpcap calls name; false: none of Links.
func LinkByName(name string) (int, bool) {
	for l, n := range linkNames {
		if n == name {
			return l, true
		}
	}
	return 0, false
}

// ReadFrames reads the packets of a capture file and their link type.
func ReadFrames(name string) (int, []Frame, error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = f.Close() }()
	r, err := pcapio.NewReader(f)
	if err != nil {
		return 0, nil, err
	}
	link := -1
	var frames []Frame
	for {
		var p pcapio.Packet
		if err := r.Next(&p); errors.Is(err, io.EOF) {
			return link, frames, nil
		} else if err != nil {
			return link, frames, err
		}
		link = p.LinkType
		frames = append(frames, Frame{Data: append([]byte(nil), p.Data...), Length: p.OrigLen})
	}
}

// Captures reads the packets of all capture files below dir, by link type; those
// of other link types than Links and what can't be read are left out.
func Captures(dir string) (map[int][]Frame, error) {
	all := map[int][]Frame{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		link, frames, _ := ReadFrames(path)
		if _, ours := linkNames[link]; !ours {
			return nil
		}
		for _, f := range frames {
			// Longer ones make no other decisions; malformed ones may claim anything.
			f.Data = f.Data[:min(len(f.Data), 512)]
			f.Length = max(f.Length, uint32(len(f.Data)))
			all[link] = append(all[link], f)
		}
		return nil
	})
	return all, err
}

var codes = map[string]uint16{
	"ld": classLD | sizeW, "ldh": classLD | sizeH, "ldb": classLD | sizeB, "ldx": classLDX, "ldxb": classLDX | sizeB,
	"st": classST, "stx": classSTX, "ret": classRET, "tax": classMISC, "txa": classMISC | 0x80,
	"add": classALU, "sub": classALU | 0x10, "mul": classALU | 0x20, "div": classALU | 0x30, "or": classALU | 0x40,
	"and": classALU | 0x50, "lsh": classALU | 0x60, "rsh": classALU | 0x70, "neg": classALU | 0x80,
	"mod": classALU | 0x90, "xor": classALU | 0xa0,
	"ja": classJMP, "jeq": classJMP | 0x10, "jgt": classJMP | 0x20, "jge": classJMP | 0x30, "jset": classJMP | 0x40,
}

// auxNames are libpcap's names for the fields of a Linux socket buffer.
var auxNames = map[string]uint32{
	"proto": adProtocol, "type": adPktType, "ifidx": adIfIndex, "hatype": adHaType,
	"vlan_tci": adVLANTag, "vlanp": adVLANPresent, "vlan_tpid": adVLANTPID,
}

// ParseImage reads the program that libpcap's bpf_image printed.
func ParseImage(text string) ([]bpf.RawInstruction, error) {
	var prog []bpf.RawInstruction
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		line, _, _ := strings.Cut(lines.Text(), ";")
		if strings.TrimSpace(line) == "" {
			continue
		}
		i, err := parseInstruction(line, len(prog))
		if err != nil {
			return nil, fmt.Errorf("%q: %w", line, err)
		}
		prog = append(prog, i)
	}
	return prog, nil
}

func parseInstruction(line string, at int) (i bpf.RawInstruction, err error) {
	_, line, _ = strings.Cut(line, ")")
	var jt, jf string
	if before, jumps, found := strings.Cut(line, " jt "); found {
		line = before
		jt, jf, _ = strings.Cut(jumps, "jf ")
	}
	words := strings.Fields(line)
	if len(words) == 0 {
		return i, errors.New("no instruction")
	}
	op, known := codes[words[0]]
	if !known {
		return i, errors.New("unknown instruction")
	}
	i.Op = op
	num := func(s string) uint32 {
		n, e := strconv.ParseInt(strings.TrimSpace(s), 0, 64)
		if e != nil {
			err = e
		}
		return uint32(n)
	}
	arg := strings.Join(words[1:], "")
	switch {
	case arg == "" && op == classRET:
		i.Op |= sizeB // BPF_A
	case arg == "":
	case arg == "#pktlen":
		i.Op = op&classMask | modeLEN
	case arg == "x":
		i.Op |= srcX
	case arg[0] == '#':
		i.K = num(arg[1:])
	case strings.HasPrefix(arg, "M["):
		i.K = num(strings.Trim(arg[1:], "[]"))
		if op&classMask <= classLDX {
			i.Op |= modeMEM
		}
	case strings.HasPrefix(arg, "4*(["):
		i.Op |= modeMSH
		n, _, _ := strings.Cut(arg[4:], "]")
		i.K = num(n)
	case strings.HasPrefix(arg, "[x+"):
		i.Op |= modeIND
		i.K = num(strings.Trim(arg[3:], "[]"))
	case arg[0] == '[':
		i.Op |= modeABS
		field, aux := auxNames[strings.Trim(arg, "[]")]
		if i.K = adOff + field; !aux {
			i.K = num(strings.Trim(arg, "[]"))
		}
	default: // ja
		i.K = num(arg) - uint32(at) - 1
	}
	if jt != "" {
		i.Jt, i.Jf = uint8(num(jt)-uint32(at)-1), uint8(num(jf)-uint32(at)-1)
	}
	return i, err
}
