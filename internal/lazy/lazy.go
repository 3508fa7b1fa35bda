// Package lazy makes what only some commands need when it is needed first. Every
// start of the program, also as the child that opens sockets, pays for what packages
// make at their start.
package lazy

import (
	"regexp"
	"sync"
)

// Regexp compiles an expression that stands in the source.
func Regexp(expr string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expr) })
}
