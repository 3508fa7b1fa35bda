package doctor

// fsKind is what a file system is, as far as that matters.
type fsKind struct {
	name     string // "" where the system does not say
	remote   bool   // others serve it
	volatile bool   // it is in memory
}
