package indicator

// Limit is a bound that analysing a capture has met. Nothing behind a limit is
// lost silently: Bounds counts how often each was met.
type Limit string

// MaxMemory is how many bytes all buffers of one analysis may have together:
// reassembled segments and fragments, heads, bodies.
const MaxMemory = 32 << 20

// Bounds is the memory of one analysis and what of it was refused. It belongs to
// one goroutine.
type Bounds struct {
	used    int64
	spent   map[Limit]int64
	reached map[Limit]int64
}

// Take asks for n bytes of buffers, and counts l when there are too many already.
func (b *Bounds) Take(n int, l Limit) bool {
	if b.used+int64(n) > MaxMemory {
		b.Reached(l)
		return false
	}
	b.used += int64(n)
	return true
}

// Give returns n bytes that Take granted.
func (b *Bounds) Give(n int) { b.used -= int64(n) }

// Spend takes n of a budget that the whole analysis has once, and counts l, by
// which the budget is known, when it would come to more than most. A negative n
// adds to the budget.
func (b *Bounds) Spend(n, most int64, l Limit) bool {
	if n > 0 && b.spent[l]+n > most {
		b.Reached(l)
		return false
	}
	if b.spent == nil {
		b.spent = map[Limit]int64{}
	}
	b.spent[l] += n
	return true
}

// Used is how many bytes are granted.
func (b *Bounds) Used() int64 { return b.used }

// Reached counts that l was met.
func (b *Bounds) Reached(l Limit) {
	if b.reached == nil {
		b.reached = map[Limit]int64{}
	}
	b.reached[l]++
}

// Limits returns how often each limit was met.
func (b *Bounds) Limits() map[Limit]int64 { return b.reached }
