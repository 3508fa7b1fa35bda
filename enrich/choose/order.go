package choose

import (
	"math"
	"net/netip"
	"slices"
	"strings"

	"capagent/enrich/indicator"
)

// tier is the rough order: what was transferred and where from, names, addresses
// that somebody spoke to, everything else.
func tier(i indicator.Indicator) int {
	switch i.Type {
	case indicator.File:
		return 0
	case indicator.URL:
		if oddURL(i.Value) {
			return 0
		}
		return 1
	case indicator.Host, indicator.Email, indicator.Certificate:
		return 1
	case indicator.Address:
		if i.Role&indicator.Destination != 0 {
			return 2
		}
	}
	return 3
}

// oddURL says whether a URL has an address for a host, or an unusual port.
func oddURL(u string) bool {
	host, port := authority(u)
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return port != "" && port != "80" && port != "443"
}

// score is the order within a tier; a higher one comes first.
func score(i indicator.Indicator) int {
	points := rarity(i.Count)
	switch i.Type {
	case indicator.URL:
		if host, _ := authority(i.Value); host != "" {
			points += strange(host)
		}
		if program(i.Value) {
			points += 20
		}
	case indicator.Host:
		points += strange(i.Value)
		if i.Role&^indicator.DNSAnswer == 0 { // nobody asked for it: a name server, a mail server
			points -= 15
		}
	case indicator.Certificate, indicator.JA3, indicator.JA4:
		points += 5
	case indicator.UserAgent:
		if !strings.HasPrefix(i.Value, "Mozilla/") {
			points += 10
		}
	}
	return points
}

// rarity: what calls home once an hour is seen a few times, what a person uses often.
func rarity(count int64) int {
	switch {
	case count <= 3:
		return 12
	case count <= 10:
		return 8
	case count <= 100:
		return 4
	}
	return 0
}

// strange counts what names of malware often have: long labels, many of them, such
// that look random, punycode.
func strange(name string) (points int) {
	longest := ""
	labels := 1
	for rest, more := name, true; more; labels++ {
		var label string
		label, rest, more = strings.Cut(rest, ".")
		if len(label) > len(longest) {
			longest = label
		}
	}
	if labels > 6 {
		points += 5
	}
	switch {
	case len(longest) > 35:
		points += 10
	case len(longest) > 20:
		points += 5
	}
	if len(longest) >= 12 && entropy(longest) > 3.3 {
		points += 8
	}
	if strings.HasPrefix(name, "xn--") || strings.Contains(name, ".xn--") {
		points += 5
	}
	return points
}

// entropy is that of a text's bytes, in bits.
func entropy(text string) (bits float64) {
	var count [256]int
	for i := range len(text) {
		count[text[i]]++
	}
	for _, n := range count {
		if n > 0 {
			p := float64(n) / float64(len(text))
			bits -= p * math.Log2(p)
		}
	}
	return bits
}

// programs are the endings of what is run when somebody opens it.
var programs = []string{
	".exe", ".dll", ".scr", ".msi", ".ps1", ".bat", ".cmd", ".hta", ".vbs", ".js", ".jar", ".apk", ".lnk", ".iso", ".img", ".sh", ".elf", ".bin", ".docm", ".xlsm",
}

func program(u string) bool {
	if end := strings.IndexAny(u, "?#"); end >= 0 {
		u = u[:end]
	}
	dot := strings.LastIndexByte(u, '.')
	return dot > 0 && slices.Contains(programs, strings.ToLower(u[dot:]))
}
