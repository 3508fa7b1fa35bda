package gendocs

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

const rootHelp = `tool does things.

  tool go     at once

Usage:
  tool [flags]
  tool [command]

Available Commands:
  go          Go somewhere
  help        Help about any command

Flags:
      --config FILE       read FILE
  -h, --help              help for tool

Use "tool [command] --help" for more information about a command.
`

const goHelp = `.hidden line that begins with a point
and a back\slash.

Usage:
  tool go PLACE [flags]

Examples:
  tool go 'a place'

Flags:
      --fast MODE         go fast,
                          or faster (default "no")

Global Flags:
      --config FILE       read FILE
`

func fake(words []string) (string, error) {
	switch strings.Join(words, " ") {
	case "":
		return rootHelp, nil
	case "go":
		return goHelp, nil
	default:
		return "", errors.New("no such command")
	}
}

func TestEveryCommandHasAPage(t *testing.T) {
	pages, err := Pages(fake, About{Program: "tool", Short: "Does things", Version: "1", Date: "2026-11-22", Exits: []Exit{{"0", "done"}}})
	if err != nil {
		t.Fatal(err)
	}
	if len(pages) != 2 || pages[0].Name != "tool.1" || pages[1].Name != "tool-go.1" {
		t.Fatalf("%+v", pages)
	}
	for _, want := range []string{
		".TH \"TOOL\" \"1\" \"2026-11-22\" \"tool 1\"", "tool \\- does things\n", `\fBtool\-go(1)\fR` + "\nGo somewhere\n",
		"tool does things.\n.PP\n.RS 2\n.nf\ntool go     at once\n.fi\n.RE\n", ".SH EXIT STATUS\n.TP\n\\fB0\\fR\ndone\n",
	} {
		if !strings.Contains(pages[0].Text, want) {
			t.Errorf("%q is not in\n%s", want, pages[0].Text)
		}
	}
	for _, want := range []string{
		"\n\\&.hidden line", `a back\eslash.`, "\\fB\\-\\-fast MODE\\fR\ngo fast, or faster (default \"no\")\n",
		"  tool go \\(aqa place\\(aq\n", ".SH GLOBAL OPTIONS", "\\fBtool\\fR(1)",
	} {
		if !strings.Contains(pages[1].Text, want) {
			t.Errorf("%q is not in\n%s", want, pages[1].Text)
		}
	}
	if strings.Contains(pages[0].Text+pages[1].Text, "more information") {
		t.Error("cobra's closing line is no part of a page")
	}
}

func TestAProgramThatSaysNothingIsAnError(t *testing.T) {
	if _, err := Pages(func([]string) (string, error) { return "", nil }, About{Program: "tool"}); err == nil {
		t.Error("no error")
	}
	endless := func([]string) (string, error) { return rootHelp, nil }
	if _, err := Pages(endless, About{Program: "tool"}); err == nil {
		t.Error("commands without an end are no error")
	}
}

// The longest command's name touches what it does but for one blank.
func TestTheLongestCommandIsOne(t *testing.T) {
	got := commands([]string{"  version        Print the version", "  support-bundle Pack what a person needs", ""})
	want := []entry{{"version", "Print the version"}, {"support-bundle", "Pack what a person needs"}}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}
