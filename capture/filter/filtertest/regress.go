package filtertest

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"capagent/capture/filter"
)

// Line is d as a line of testdata/regressions.txt: tab-separated the link type,
// the target, the netmask or "-", the expression, and the packet, or "-".
func Line(d *Disagreement) string {
	mask, frame := "-", "-"
	if d.HasMask {
		mask = fmt.Sprintf("%#08x", d.Netmask)
	}
	if d.Kind == Decides || d.Kind == Differs {
		frame = fmt.Sprintf("%x/%d", d.Frame.Data, d.Frame.Length)
		if a := d.Frame.Aux; a != nil {
			tag := 0
			if a.HasTag {
				tag = 1
			}
			frame += fmt.Sprintf("/%d/%d/%d/%d/%d/%d/%d", a.Protocol, a.PktType, a.IfIndex, a.HaType, tag, a.TCI, a.TPID)
		}
	}
	expr := d.Expr
	if expr == "" || expr[0] == '"' || strings.ContainsAny(expr, "\t\r\n") {
		expr = strconv.Quote(expr)
	}
	return strings.Join([]string{LinkName(d.LinkType), targetNames[d.Target], mask, expr, frame}, "\t")
}

var targetNames = map[filter.Target]string{filter.File: "file", filter.Live: "live", filter.LiveCooked: "cooked"}

// ParseLine is the opposite of Line. The frame's Data is nil where there is none.
func ParseLine(line string) (Case, Frame, error) {
	var c Case
	var f Frame
	part := strings.Split(line, "\t")
	if len(part) != 5 {
		return c, f, fmt.Errorf("%q: %d parts, want 5", line, len(part))
	}
	c.Expr, c.LinkType, c.Target = part[3], -1, -1
	for l, name := range linkNames {
		if name == part[0] {
			c.LinkType = l
		}
	}
	for t, name := range targetNames {
		if name == part[1] {
			c.Target = t
		}
	}
	if c.LinkType < 0 || c.Target < 0 {
		return c, f, fmt.Errorf("%q: unknown link type or target", line)
	}
	if strings.HasPrefix(c.Expr, `"`) {
		expr, err := strconv.Unquote(c.Expr)
		if err != nil {
			return c, f, fmt.Errorf("%q: %w", line, err)
		}
		c.Expr = expr
	}
	if part[2] != "-" {
		n, err := strconv.ParseUint(part[2], 0, 32)
		if err != nil {
			return c, f, err
		}
		c.HasMask, c.Netmask = true, uint32(n)
	}
	if part[4] == "-" {
		return c, f, nil
	}
	var err error
	f, err = parseFrame(part[4])
	return c, f, err
}

// parseFrame reads a packet as Line writes it.
func parseFrame(text string) (f Frame, err error) {
	field := strings.Split(text, "/")
	if f.Data, err = hex.DecodeString(field[0]); err != nil {
		return f, err
	}
	if f.Data == nil {
		f.Data = []byte{}
	}
	var n []uint32
	for _, s := range field[1:] {
		v, err := strconv.ParseUint(s, 10, 32)
		if err != nil {
			return f, err
		}
		n = append(n, uint32(v))
	}
	switch len(n) {
	case 1:
	case 8:
		f.Aux = &Aux{
			Protocol: uint16(n[1]), PktType: uint8(n[2]), IfIndex: n[3], HaType: uint16(n[4]),
			HasTag: n[5] == 1, TCI: uint16(n[6]), TPID: uint16(n[7]),
		}
	default:
		return f, fmt.Errorf("%q: %d numbers after the packet", text, len(n))
	}
	f.Length = n[0]
	return f, nil
}
