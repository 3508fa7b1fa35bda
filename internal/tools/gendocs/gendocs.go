// Package gendocs makes manual pages from what the program says of itself with
// --help. The program's commands are in package main, where no tool can get at
// them, and a generator inside of it would be shipped to everybody.
package gendocs

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
)

// Page is one manual page: capagent-upload.1 for `capagent upload`.
type Page struct {
	Name string // of the file
	Text string // roff
}

// About is what pages tell beside the help.
type About struct {
	Program string // what it is called
	Short   string // one line on the program as a whole
	Version string
	Date    string // 2026-11-22
	Exits   []Exit
}

// Exit is an exit code and what it means.
type Exit struct{ Code, Meaning string }

// Help returns what a command, given by its words behind the program's name, says
// of itself.
type Help func(words []string) (string, error)

// maxDepth bounds commands within commands.
const maxDepth = 4

// Ask returns the Help of a program file.
func Ask(ctx context.Context, program string) Help {
	return func(words []string) (string, error) {
		out, err := exec.CommandContext(ctx, program, append(words, "--help")...).Output()
		if err != nil {
			return "", fmt.Errorf("%s %s --help: %w", program, strings.Join(words, " "), err)
		}
		return string(out), nil
	}
}

// Pages returns the page of every command, the program's first.
func Pages(ask Help, about About) ([]Page, error) {
	return pages(ask, about, nil, about.Short)
}

func pages(ask Help, about About, words []string, short string) ([]Page, error) {
	if len(words) > maxDepth {
		return nil, errors.New("commands are nested too deeply: " + strings.Join(words, " "))
	}
	text, err := ask(words)
	if err != nil {
		return nil, err
	}
	h := parse(text)
	if h.usage == "" {
		return nil, fmt.Errorf("%s: no usage in its help", strings.Join(words, " "))
	}
	all := []Page{{Name: name(about, words) + ".1", Text: page(h, about, words, short)}}
	for _, c := range h.commands {
		if c.key == "help" {
			continue
		}
		below, err := pages(ask, about, append(words[:len(words):len(words)], c.key), c.text)
		if err != nil {
			return nil, err
		}
		all = append(all, below...)
	}
	return all, nil
}

func name(about About, words []string) string {
	return strings.Join(append([]string{about.Program}, words...), "-")
}

// help is a command's help in its parts.
type help struct {
	long, usage, examples   string
	commands, flags, global []entry
}

type entry struct{ key, text string }

// heading begins a part of cobra's help.
var heading = regexp.MustCompile(`^(Usage|Aliases|Examples|Available Commands|Flags|Global Flags|Additional help topics):$`)

func parse(text string) help {
	parts := map[string][]string{}
	at := ""
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, " \r\n")
		if m := heading.FindStringSubmatch(line); m != nil {
			at = m[1]
			continue
		}
		if strings.HasPrefix(line, `Use "`) && at != "" {
			at = "Use"
		}
		parts[at] = append(parts[at], line)
	}
	block := func(part string) string { return strings.Trim(strings.Join(parts[part], "\n"), "\n") }
	return help{
		long: block(""), usage: block("Usage"), examples: block("Examples"),
		commands: commands(parts["Available Commands"]), flags: entries(parts["Flags"]), global: entries(parts["Global Flags"]),
	}
}

// commands reads lines of a command and what it does. One blank may be all that is
// between them, behind the longest name.
func commands(lines []string) []entry {
	var all []entry
	for _, line := range lines {
		if key, text, _ := strings.Cut(strings.TrimSpace(line), " "); key != "" {
			all = append(all, entry{key, strings.TrimSpace(text)})
		}
	}
	return all
}

// entries reads lines of two columns. What stands in the second one alone goes on
// with the entry above it.
func entries(lines []string) []entry {
	var all []entry
	for _, line := range lines {
		text := strings.TrimSpace(line)
		indent := len(line) - len(strings.TrimLeft(line, " "))
		key, rest, two := strings.Cut(text, "  ")
		switch {
		case text == "":
		case indent > 10 && len(all) > 0:
			all[len(all)-1].text += " " + text
		case two:
			all = append(all, entry{key, strings.TrimSpace(rest)})
		default:
			all = append(all, entry{text, ""})
		}
	}
	return all
}
