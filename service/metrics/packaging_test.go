package metrics_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"

	"capagent/internal/config"
	"capagent/service/metrics"
	"capagent/service/metrics/observe"
)

var root = filepath.Join("..", "..")

func read(t *testing.T, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(append([]string{root}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var (
	used    = regexp.MustCompile(`\b(capagent_\w+)(?:\{([^}]*)\})?`)
	matcher = regexp.MustCompile(`(\w+)\s*(?:=~|!~|!=|=)`)
)

// check looks whether all metrics that an expression uses, and the labels that it
// asks for, are there. It returns how many it uses.
func check(t *testing.T, all map[string]*dto.MetricFamily, expr string) int {
	t.Helper()
	found := used.FindAllStringSubmatch(expr, -1)
	for _, m := range found {
		family := all[m[1]]
		if family == nil { // a histogram's parts
			family = all[regexp.MustCompile(`_(bucket|count|sum)$`).ReplaceAllString(m[1], "")]
		}
		if family == nil {
			t.Errorf("there is no %s, which is used in %s", m[1], expr)
			continue
		}
		known := append(labels(family), "job", "instance")
		for _, label := range matcher.FindAllStringSubmatch(m[2], -1) {
			if !slices.Contains(known, label[1]) {
				t.Errorf("%s has no label %s, which is used in %s", m[1], label[1], expr)
			}
		}
	}
	return len(found)
}

func labels(f *dto.MetricFamily) (names []string) {
	for _, l := range f.GetMetric()[0].GetLabel() {
		names = append(names, l.GetName())
	}
	return names
}

func TestRulesUseWhatIsThere(t *testing.T) {
	all, n := whole(t), 0
	for _, file := range []string{"capagent.rules.yml", "capagent.rules.test.yml"} {
		for line := range strings.Lines(read(t, "packaging", "prometheus", file)) {
			if _, expr, ok := strings.Cut(line, "expr: "); ok {
				n += check(t, all, expr)
			} else if _, expr, ok := strings.Cut(line, "series: "); ok {
				n += check(t, all, expr)
			}
		}
	}
	if n < 20 {
		t.Errorf("only %d metrics are used", n)
	}
}

func TestRules(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not here")
	}
	for _, args := range [][]string{{"check", "rules", "capagent.rules.yml"}, {"test", "rules", "capagent.rules.test.yml"}} {
		cmd := exec.CommandContext(t.Context(), promtool, args...)
		cmd.Dir = filepath.Join(root, "packaging", "prometheus")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
}

func TestTheDashboardUsesWhatIsThere(t *testing.T) {
	type place struct{ H, W, X, Y int }
	var board struct {
		Panels []struct {
			ID          int
			Type, Title string
			GridPos     place
			Targets     []struct{ Expr string }
		}
		Templating struct{ List []struct{ Definition string } }
	}
	if err := json.Unmarshal([]byte(read(t, "packaging", "grafana", "capagent.json")), &board); err != nil {
		t.Fatal(err)
	}
	all, n := whole(t), 0
	for _, v := range board.Templating.List {
		n += check(t, all, v.Definition)
	}
	shown := ""
	for i, p := range board.Panels {
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("%s is empty", p.Title)
		}
		for _, target := range p.Targets {
			n += check(t, all, target.Expr)
			shown += target.Expr + "\n"
		}
		for _, q := range board.Panels[:i] {
			a, b := p.GridPos, q.GridPos
			if p.ID == q.ID || a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H {
				t.Errorf("%s and %s are in one place", p.Title, q.Title)
			}
		}
		if g := p.GridPos; g.X+g.W > 24 {
			t.Errorf("%s is too wide", p.Title)
		}
	}
	if n < len(all) {
		t.Errorf("only %d metrics are used", n)
	}
	for name := range all {
		if !strings.Contains(shown, name) && name != "capagent_info" && name != "capagent_collected_timestamp_seconds" {
			t.Errorf("%s is not shown", name)
		}
	}
}

// TestDocs compares the table of metrics with what there is.
func TestDocs(t *testing.T) {
	page := read(t, "docs", "metrics.md")
	var rows []string
	for line := range strings.Lines(page) {
		if strings.HasPrefix(line, "| `capagent_") {
			rows = append(rows, strings.TrimSpace(line))
		}
	}
	var want []string
	for name, f := range whole(t) {
		in := ""
		if names := labels(f); len(names) > 0 {
			in = "`" + strings.Join(names, "`, `") + "`"
		}
		want = append(want, strings.Join(strings.Fields(fmt.Sprintf("| `%s` | %s | %s | %s |", name, strings.ToLower(f.GetType().String()), in, f.GetHelp())), " "))
	}
	slices.Sort(want)
	for _, row := range want {
		if !slices.Contains(rows, row) {
			t.Errorf("missing:\n%s", row)
		}
	}
	for _, row := range rows {
		if !slices.Contains(want, row) {
			t.Errorf("not so:\n%s", row)
		}
	}
}

var tomlBlock = regexp.MustCompile("(?s)```toml\n(.*?)```")

// TestDocsExamples reads the examples as the agent would.
func TestDocsExamples(t *testing.T) {
	blocks := tomlBlock.FindAllStringSubmatch(read(t, "docs", "metrics.md"), -1)
	for _, block := range blocks {
		path := filepath.Join(t.TempDir(), "agent.toml")
		if err := os.WriteFile(path, []byte(block[1]), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg := struct {
			Metrics metrics.Config `toml:"metrics"`
		}{observe.DefaultConfig()}
		if _, err := config.Load(config.Options{Path: path}, &cfg); err != nil {
			t.Error(err)
		}
		for _, err := range cfg.Metrics.Validate() {
			if filepath.IsAbs("/") { // its paths are those of Unix
				t.Error(err)
			}
		}
	}
	if len(blocks) < 2 {
		t.Error("there is no example")
	}
}
