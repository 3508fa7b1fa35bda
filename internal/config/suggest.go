package config

import "strings"

// Nearest returns the candidate that word was most likely meant to be: the same
// but for case and dashes, or within a third of its letters by edit distance
// (insertions, deletions, replacements and swaps of neighbours).
func Nearest(word string, candidates []string) (string, bool) {
	const longest = 64 // bounds the work that a hostile key can cause
	if word == "" || len(word) > longest {
		return "", false
	}
	plain := func(s string) string { return strings.ReplaceAll(strings.ToLower(s), "-", "_") }
	best, bestDistance := "", max(1, len(word)/3)+1
	for _, c := range candidates {
		if len(c) > longest || c == "" {
			continue
		}
		if d := distance(plain(word), plain(c)); d < bestDistance && d < len(c) {
			best, bestDistance = c, d
		}
	}
	return best, best != ""
}

// distance is the optimal string alignment distance.
func distance(a, b string) int {
	before, last := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}

// presentable reports whether an unknown name may be shown. A secret that was
// pasted in the place of a key must not be: names are short, of plain
// characters, and have few digits.
func presentable(name string) bool {
	if name == "" || len(name) > 24 {
		return false
	}
	digits, hex := 0, 0
	for _, c := range []byte(name) {
		switch {
		case c >= '0' && c <= '9':
			digits++
			hex++
		case c >= 'a' && c <= 'f', c >= 'A' && c <= 'F':
			hex++
		case c >= 'g' && c <= 'z', c >= 'G' && c <= 'Z', c == '_', c == '-':
		default:
			return false
		}
	}
	return digits <= 3 && (len(name) < 12 || hex < len(name))
}
