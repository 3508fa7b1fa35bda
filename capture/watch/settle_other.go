//go:build !linux && !windows

package watch

import "capagent/internal/safefile"

// inspect can't tell here whether a file has a writer.
func inspect(path string) (facts, state, error) {
	f, info, err := safefile.Open(path)
	if err != nil {
		return facts{}, unsure, err
	}
	defer func() { _ = f.Close() }()
	return factsOf(info), unsure, nil
}

func foreign(string) string { return "" }
