package secret

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// command runs the program and takes its standard output. Standard error is
// thrown away, the command line is never quoted: either may hold the secret.
func (src Source) command(ctx context.Context) (Secret, error) {
	words, err := splitWords(src.Command, runtime.GOOS != "windows")
	if err != nil {
		return Secret{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, src.Timeout)
	defer cancel()
	var out limited
	cmd := exec.CommandContext(ctx, words[0], words[1:]...) //nolint:gosec // running the configured command is the job
	cmd.Dir = src.Dir
	cmd.Stdout = &out
	// A child that inherited the pipe must not keep us waiting after the
	// program itself has ended.
	cmd.WaitDelay = time.Second
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case out.full:
		return Secret{}, fmt.Errorf("the command wrote more than %d bytes", maxBytes)
	case err != nil && ctx.Err() != nil:
		return Secret{}, fmt.Errorf("the command did not end in time: %w", ctx.Err())
	case errors.As(err, &exit):
		return Secret{}, fmt.Errorf("the command ended with %s", exit.ProcessState)
	case errors.Is(err, exec.ErrWaitDelay):
		return Secret{}, errors.New("the command left a process behind that holds its output open")
	case errors.Is(err, exec.ErrNotFound):
		return Secret{}, errors.New("the command's program is not in PATH")
	case errors.Is(err, syscall.EPERM):
		return Secret{}, fmt.Errorf("the command could not be run: %w; a running agent that confined itself starts no programs, so restart it", bare(unwrapExec(err)))
	case err != nil:
		return Secret{}, fmt.Errorf("the command could not be run: %w", bare(unwrapExec(err)))
	}
	value, err := fromBytes(out.buf.Bytes())
	if err != nil {
		return Secret{}, fmt.Errorf("the command's output: %w", err)
	}
	return value, nil
}

// unwrapExec drops the program's name from an error of os/exec.
func unwrapExec(err error) error {
	var ee *exec.Error
	if errors.As(err, &ee) {
		return ee.Err
	}
	return err
}

// limited keeps the first maxBytes and then refuses, which ends the command.
type limited struct {
	buf  bytes.Buffer
	full bool
}

func (l *limited) Write(p []byte) (int, error) {
	if l.buf.Len()+len(p) > maxBytes {
		l.full = true
		return 0, errors.New("too much output")
	}
	return l.buf.Write(p)
}

// splitWords splits a command line as a POSIX shell splits words: single quotes
// take everything, double quotes everything but \" and \\, a backslash outside
// of quotes the next character. Nothing is expanded and no shell runs. With
// escapes off (Windows, where it separates paths) a backslash is itself.
func splitWords(line string, escapes bool) ([]string, error) {
	var words []string
	var word strings.Builder
	in := false // a word has begun, perhaps an empty quoted one
	var quote rune
	runes := []rune(line)
	for i := 0; i < len(runes); i++ {
		c := runes[i]
		switch {
		case c == 0:
			return nil, errors.New("expected a command line, found a NUL byte in it")
		case quote == '\'' && c != '\'', quote == '"' && c != '"' && c != '\\':
			word.WriteRune(c)
		case quote != 0 && c == quote:
			quote = 0
		case c == '\\' && escapes:
			if i+1 == len(runes) {
				return nil, errors.New(`expected a character after the last \`)
			}
			i++
			if quote == '"' && runes[i] != '"' && runes[i] != '\\' {
				word.WriteRune(c)
			}
			word.WriteRune(runes[i])
			in = true
		case quote == 0 && (c == '\'' || c == '"'):
			quote, in = c, true
		case quote == 0 && strings.ContainsRune(" \t\r\n", c):
			if in {
				words = append(words, word.String())
				word.Reset()
				in = false
			}
		default:
			word.WriteRune(c)
			in = true
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("expected a closing %c quote", quote)
	}
	if in {
		words = append(words, word.String())
	}
	if len(words) == 0 || words[0] == "" {
		return nil, errors.New("expected a program and its arguments")
	}
	return words, nil
}
