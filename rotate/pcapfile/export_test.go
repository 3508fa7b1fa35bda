package pcapfile

// Misalign moves the buffers to addresses and lengths that O_DIRECT refuses.
func (w *Writer) Misalign() {
	for range len(w.free) {
		b := <-w.free
		w.free <- b[7 : len(b)-3 : len(b)-3]
	}
}
