package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"capagent/internal/failure"
	"capagent/internal/quote"
)

// What a user reads, in one place. Data goes to stdout; everything else goes to
// stderr, in lower case, each line headed by the program's name; where the user
// can act, a hint follows. Text from files and servers is quoted.

// complain prints err as one line per cause, and hints behind them.
func (a *app) complain(err error) {
	if err == nil || err.Error() == "" {
		return
	}
	for line := range strings.Lines(err.Error()) {
		fmt.Fprintf(a.stderr, "capagent: %s\n", quote.Text(strings.TrimRight(line, "\n")))
	}
	var f *failure.Error
	if errors.As(err, &f) && f.Hint != "" {
		a.hint("%s", f.Hint)
	}
}

// hint says what the user can do, once.
func (a *app) hint(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if a.hinted == nil {
		a.hinted = map[string]bool{}
	}
	if !a.hinted[text] {
		fmt.Fprintf(a.stderr, "hint: %s\n", text)
	}
	a.hinted[text] = true
}

// say prints a line that the user can do without.
func (a *app) say(format string, args ...any) {
	if !a.quiet {
		fmt.Fprintf(a.stderr, format+"\n", args...)
	}
}

// encode prints one JSON object on one line.
func (a *app) encode(v any) error {
	out := json.NewEncoder(a.stdout)
	out.SetEscapeHTML(false)
	return out.Encode(v)
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// buffered lets a command print many lines by few writes; the returned function flushes.
func (a *app) buffered() func() error {
	out := a.stdout
	buf := bufio.NewWriterSize(out, 64<<10)
	a.stdout = buf
	return func() error {
		a.stdout = out
		return buf.Flush()
	}
}

// count prints n with the noun that fits.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	if strings.HasSuffix(noun, "s") {
		noun += "e"
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}
