package flow

import (
	"capagent/enrich/indicator"
	"capagent/enrich/stream"
)

// deliver hands the next bytes of a side to the parser, or finds it.
func (t *Table) deliver(f *Flow, from stream.Side, b []byte, at indicator.At) {
	c := f.tcp
	if c.done || len(b) == 0 {
		return
	}
	if c.parser == nil {
		head := t.recognise(f, from, b)
		if c.parser == nil {
			return
		}
		if len(head) > 0 {
			t.judge(f, t.feed(f, from, head, at), at)
			if c.parser == nil {
				return
			}
		}
	}
	if v := t.feed(f, from, b, at); v != stream.More {
		t.judge(f, v, at)
	}
}

// recognise looks for the parser of a connection. It returns the bytes of the
// side's beginning that come before b.
func (t *Table) recognise(f *Flow, from stream.Side, b []byte) []byte {
	c := f.tcp
	me := &c.sides[from]
	head := me.head
	me.head = nil
	beginning := me.offered == len(head)
	me.offered = min(me.offered+len(b), unknownAtMost)
	first := b
	if len(head) > 0 {
		first = append(head[:len(head):len(head)], b[:min(len(b), maxHead)]...)
	}
	t.find(f, from, first)
	if c.parser != nil {
		return head
	}
	if len(head) > 0 { // what came before may be another protocol's
		t.find(f, from, b)
	}
	if c.parser == nil && beginning && len(first) < enough {
		me.head = append([]byte(nil), first...)
	}
	return nil
}

// find asks for the parser of a connection that begins, or goes on, with first.
func (t *Table) find(f *Flow, from stream.Side, first []byte) {
	c := f.tcp
	c.name = "recognition"
	t.guard(f, func() { c.parser, c.name = t.open(f.conn(), from, first) })
	if c.parser != nil {
		f.Named(c.name)
	}
}

func (t *Table) feed(f *Flow, from stream.Side, b []byte, at indicator.At) (v stream.Verdict) {
	defer t.recovered(f, &v)
	return f.tcp.parser.Data(from, b, at)
}

// gap tells the parser of missing bytes.
func (t *Table) gap(f *Flow, from stream.Side, n int64, at indicator.At) {
	c := f.tcp
	c.sides[from].head = nil
	if p := c.parser; p != nil {
		v := stream.Done
		t.guard(f, func() { v = p.Gap(from, n, at) })
		t.judge(f, v, at)
	}
}

// judge does what a parser wants.
func (t *Table) judge(f *Flow, v stream.Verdict, at indicator.At) {
	c := f.tcp
	switch v {
	case stream.More:
	case stream.Done:
		t.close(f, at)
		c.done = true
		for i := range c.sides {
			t.abandon(&c.sides[i])
		}
	case stream.Again:
		t.close(f, at)
		for i := range c.sides {
			c.sides[i].offered, c.sides[i].head = 0, nil
		}
	}
}

func (t *Table) close(f *Flow, at indicator.At) {
	c := f.tcp
	if p := c.parser; p != nil {
		c.parser = nil
		t.guard(f, func() { p.Close(at) })
	}
}

// guard calls a parser: a panic is that parser's miss, and is counted.
func (t *Table) guard(f *Flow, call func()) {
	v := stream.More
	defer t.recovered(f, &v)
	call()
}

func (t *Table) recovered(f *Flow, v *stream.Verdict) {
	if recover() == nil {
		return
	}
	c := f.tcp
	t.Failed(c.name)
	*v = stream.Done
	p := c.parser
	c.parser, c.done = nil, true
	if p != nil {
		defer func() { _ = recover() }()
		p.Close(indicator.At{Frame: f.lastFrame, Time: f.last})
	}
}
