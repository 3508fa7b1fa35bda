package lazy_test

import (
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"capagent/internal/lazy"
)

func TestAnExpressionIsThereWhenItIsAskedFor(t *testing.T) {
	word := lazy.Regexp(`^[a-z]+$`)
	if !word().MatchString("abc") || word().MatchString("1") {
		t.Error(word())
	}
}

// An expression that does not compile would be found by whoever needs it first.
func TestEveryExpressionCompiles(t *testing.T) {
	found := 0
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		files := token.NewFileSet()
		file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) != 1 || types.ExprString(call.Fun) != "lazy.Regexp" && types.ExprString(call.Fun) != "words" {
				return true
			}
			text, err := types.Eval(files, nil, token.NoPos, types.ExprString(call.Args[0]))
			if err != nil {
				return true // made of what is looked at elsewhere
			}
			found++
			if _, err := regexp.Compile(constant.StringVal(text.Value)); err != nil {
				t.Errorf("%s: %v", files.Position(call.Pos()), err)
			}
			return true
		})
		return nil
	})
	if err != nil || found < 50 {
		t.Errorf("%d found, %v", found, err)
	}
}
