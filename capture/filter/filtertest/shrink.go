package filtertest

import (
	"math/rand/v2"
	"regexp"
	"strings"
)

var reWord = regexp.MustCompile(`\\?[\w.:$-]+(?:/\d+)?|<<|>>|<=|>=|!=|==|&&|\|\||\S`)

// Shrink reduces a disagreement to a short expression and a short packet that
// show the same.
func (j *Judge) Shrink(d *Disagreement) *Disagreement {
	r := seeded(1, 1)
	words := reWord.FindAllString(d.Expr, -1)
	for n := len(words) / 2; n > 0; {
		shorter := false
		for i := 0; i+n <= len(words); {
			fewer := append(append([]string{}, words[:i]...), words[i+n:]...)
			if smaller := j.again(r, d, strings.Join(fewer, " ")); smaller != nil {
				d, words, shorter = smaller, fewer, true
			} else {
				i++
			}
		}
		if j.unwrap(r, &d, &words) {
			shorter = true
		}
		if !shorter || n > len(words) {
			n = min(n/2, len(words))
		}
	}
	if d.Kind == Decides || d.Kind == Differs {
		return j.shrinkFrame(d)
	}
	return d
}

// unwrap takes pairs of brackets away.
func (j *Judge) unwrap(r *rand.Rand, d **Disagreement, words *[]string) bool {
	var open []int
	for i, w := range *words {
		switch {
		case w == "(":
			open = append(open, i)
		case w == ")" && len(open) > 0:
			o := open[len(open)-1]
			open = open[:len(open)-1]
			fewer := append([]string{}, (*words)[:o]...)
			fewer = append(fewer, (*words)[o+1:i]...)
			fewer = append(fewer, (*words)[i+1:]...)
			if smaller := j.again(r, *d, strings.Join(fewer, " ")); smaller != nil {
				*d, *words = smaller, fewer
				return true
			}
		}
	}
	return false
}

// again says how expr shows the same kind of disagreement; nil: it doesn't.
func (j *Judge) again(r *rand.Rand, d *Disagreement, expr string) *Disagreement {
	c := d.Case
	c.Expr = expr
	pair, bad, err := j.Pair(c)
	switch {
	case err != nil:
		return nil
	case bad != nil:
		if bad.Kind == d.Kind {
			return bad
		}
		return nil
	case d.Kind != Decides && d.Kind != Differs && d.Kind != Breaks:
		return nil
	}
	if d.Frame.Data != nil {
		if _, bad := pair.Try(d.Frame); bad != nil && bad.Kind == d.Kind {
			return bad
		}
	}
	if _, _, bad := pair.Hunt(r, 80); bad != nil && bad.Kind == d.Kind {
		return bad
	}
	return nil
}

func (j *Judge) shrinkFrame(d *Disagreement) *Disagreement {
	pair, bad, err := j.Pair(d.Case)
	if err != nil || bad != nil {
		return d
	}
	try := func(f Frame) bool {
		if f.Aux != nil && d.Target != 1 && !cooked(&f, d.LinkType) {
			return false
		}
		_, bad := pair.Try(f)
		if bad == nil || bad.Kind != d.Kind {
			return false
		}
		d = bad
		return true
	}
	for n := len(d.Frame.Data); n > 0; n /= 2 {
		for len(d.Frame.Data) >= n {
			f := d.Frame
			f.Data = append([]byte(nil), f.Data[:len(f.Data)-n]...)
			if f.Length == uint32(len(d.Frame.Data)) {
				f.Length = uint32(len(f.Data))
			}
			if !try(f) {
				break
			}
		}
	}
	for i := range d.Frame.Data {
		if d.Frame.Data[i] == 0 {
			continue
		}
		f := d.Frame
		f.Data = append([]byte(nil), f.Data...)
		f.Data[i] = 0
		try(f)
	}
	if f := d.Frame; f.Length != uint32(len(f.Data)) {
		f.Length = uint32(len(f.Data))
		try(f)
	}
	return d
}
