//go:build !linux

package doctor

// What these look at, only Linux has.
func (x *examination) inotify() []job { return nil }
func (x *examination) sandbox() []job { return nil }
