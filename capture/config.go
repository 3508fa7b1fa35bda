package capture

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"capagent/capture/filter"
	"capagent/internal/config"
)

// Config is one table [[capture]].
type Config struct {
	Name           string      `toml:"name"`            // of its files and records; "": that of the interface
	Interface      string      `toml:"interface"`       // one or several, separated by commas; "any" alone
	Filter         string      `toml:"filter"`          // pcap-filter(7); "": everything
	SnapLen        int         `toml:"snaplen"`         // bytes kept of each packet; 0: all
	Promiscuous    bool        `toml:"promiscuous"`     // also what is meant for other hosts
	Buffer         config.Size `toml:"buffer"`          // memory of all interfaces together for packets that wait
	Fanout         int         `toml:"fanout"`          // buffers, and so processors, that share an interface's packets
	ExcludeUploads bool        `toml:"exclude_uploads"` // leave the agent's own connections out
}

// Bounds of Config.
const (
	minBuffer = 1 << 20
	maxFanout = 64
	longName  = 64
	anyName   = "any"
)

// SetDefaults sets the values that apply where a table is silent.
func (c *Config) SetDefaults() {
	*c = Config{Promiscuous: true, Buffer: DefaultBuffer, Fanout: 1, ExcludeUploads: true}
}

// Interfaces are the names of what is captured from.
func (c *Config) Interfaces() []string {
	var names []string
	for name := range strings.SplitSeq(c.Interface, ",") {
		if name = strings.TrimSpace(name); name != "" {
			names = append(names, name)
		}
	}
	return names
}

// Label is Name, or what stands for it.
func (c *Config) Label() string {
	if c.Name != "" {
		return c.Name
	}
	return strings.Join(c.Interfaces(), "-")
}

// Source names the capture in the records: "capture:" and its label.
func (c *Config) Source() string { return "capture:" + c.Label() }

// Options are those of a Source that captures so.
func (c *Config) Options() Options {
	return Options{
		Interfaces: c.Interfaces(), Filter: c.Filter, SnapLen: uint32(min(max(c.SnapLen, 0), MaxSnapLen)),
		NoPromisc: !c.Promiscuous, Buffer: c.Buffer.Bytes(), Fanout: c.Fanout,
	}
}

// goodName is one that stands in files' names on every system as it is.
var goodName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*$`)

// Validate returns what is wrong, each with its key ("interface"). It looks at
// no interface, which may appear later, and asks no name server.
func (c *Config) Validate() []*config.Error {
	var all []*config.Error
	bad := func(key, format string, args ...any) {
		all = append(all, &config.Error{Key: key, Err: fmt.Errorf(format, args...)})
	}
	names := c.Interfaces()
	switch {
	case len(names) == 0:
		bad("interface", "not set; `capagent interfaces` lists what can be captured from")
	case slices.Contains(names, anyName) && len(names) > 1:
		bad("interface", "%q is all interfaces: it stands alone", anyName)
	case len(slices.Compact(slices.Sorted(slices.Values(names)))) < len(names):
		bad("interface", "an interface is named twice")
	case strings.ContainsRune(c.Interface, 0):
		bad("interface", "expected the name of an interface")
	}
	if label := c.Label(); label != "" && (!goodName.MatchString(label) || len(label) > longName) {
		text := "expected at most %d letters, digits, dots, dashes and underscores"
		if c.Name == "" {
			text = "not set, and the interface's name can't stand for it: " + text
		}
		bad("name", text, longName)
	}
	if err := c.checkFilter(); err != nil {
		bad("filter", "%w", err)
	}
	if c.SnapLen < 0 || c.SnapLen > MaxSnapLen {
		bad("snaplen", "expected 0 to %d bytes; 0 keeps whole packets", MaxSnapLen)
	}
	if c.Buffer < minBuffer {
		bad("buffer", "expected at least %s", config.Size(minBuffer))
	}
	if c.Fanout < 1 || c.Fanout > maxFanout {
		bad("fanout", "expected 1 to %d", maxFanout)
	}
	return all
}

// likely are the link types that interfaces mostly have.
var likely = []int{1, 101, 0, 276, 127} // EN10MB, RAW, NULL, LINUX_SLL2, IEEE802_11_RADIOTAP

// checkFilter says what is wrong with the filter whatever the interface is: that
// of an Ethernet, where it compiles for no link type.
func (c *Config) checkFilter() error {
	if strings.TrimSpace(c.Filter) == "" {
		return nil
	}
	// What a name stands for is asked when the capture begins, and again then.
	asking, stop := context.WithCancel(context.Background())
	stop()
	var first error
	for _, link := range likely {
		o := filter.Options{LinkType: link}
		if runtime.GOOS == "linux" {
			o.Target = filter.Live
			if link == 276 {
				o.Target = filter.LiveCooked
			}
		}
		_, err := filter.Compile(asking, c.Filter, o)
		var wrong *filter.Error
		if err == nil || errors.As(err, &wrong) && strings.HasPrefix(wrong.Text, unknownHost) {
			return nil
		}
		if first == nil && wrong != nil { // without "filter:", which the key says
			first = fmt.Errorf("%s (at character %d)", wrong.Text, wrong.Pos+1)
		}
	}
	return first
}

// unknownHost begins what the compiler says of a name that nobody knows now.
const unknownHost = "unknown host "
