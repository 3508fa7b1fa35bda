package logs

import "bytes"

// scopes are the fields that make two causes of one class: a destination that
// is down and another one, two watched folders, two interfaces. What names a
// single capture is not among them: a thousand captures that fail for one reason
// have one cause.
var scopes = []string{"step", "destination", "folder", "interface"}

// unknownClass is what failure.As calls an error that nobody classified: it says
// nothing of the cause.
const unknownClass = "unknown"

// appendCause appends what a line's cause is known by: its class with the
// scopes, or its message when it has no class. A line that is not an object of
// JSON is its own cause.
func appendCause(dst, line []byte) []byte {
	var class, message []byte
	var scope [4][]byte // of scopes
	ok := eachField(line, func(key, value []byte) {
		switch string(key) {
		case "class":
			class = value
		case "message":
			message = value
		default:
			for i, s := range scopes {
				if string(key) == s {
					scope[i] = value
				}
			}
		}
	})
	if !ok {
		return append(dst, line...)
	}
	if len(class) == 0 || string(class) == unknownClass {
		dst = append(append(dst, 'm'), message...)
	} else {
		dst = append(append(dst, 'c'), class...)
	}
	for _, s := range scope {
		dst = append(append(dst, 0), s...)
	}
	return dst
}

// eachField calls visit for each field of an object of JSON, with strings as
// they stand between their quotes, and says whether it is one. It checks no more
// than it needs: the lines are zerolog's.
func eachField(line []byte, visit func(key, value []byte)) bool {
	p := bytes.TrimSpace(line)
	if len(p) < 2 || p[0] != '{' || p[len(p)-1] != '}' {
		return false
	}
	for p = p[1 : len(p)-1]; len(p) > 0; {
		k := valueEnd(p)
		if k < 2 || p[0] != '"' || k == len(p) || p[k] != ':' {
			return false
		}
		key := p[1 : k-1]
		p = p[k+1:]
		v := valueEnd(p)
		if v == 0 {
			return false
		}
		value := p[:v]
		if value[0] == '"' {
			value = value[1 : v-1]
		}
		visit(key, value)
		if p = p[v:]; len(p) > 0 {
			p = p[1:] // the comma
		}
	}
	return true
}

// valueEnd returns the length of the value that p begins with, 0 when there is
// no end to it.
func valueEnd(p []byte) int {
	depth := 0
	for i := 0; i < len(p); i++ {
		switch p[i] {
		case '"':
			for i++; i < len(p) && p[i] != '"'; i++ {
				if p[i] == '\\' {
					i++
				}
			}
			if i >= len(p) {
				return 0
			}
			if depth == 0 {
				return i + 1
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		case ',', ':':
			if depth == 0 {
				return i
			}
		}
	}
	if depth != 0 {
		return 0
	}
	return len(p)
}
