package cloudshare

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"capagent/enrich/device"
	"capagent/internal/config"
	"capagent/internal/httpx"
	"capagent/internal/lazy"
	"capagent/internal/secret"
)

// Config is the table [cloudshare]. Without an api_id there is no CloudShare.
type Config struct {
	URL            string          `toml:"url"` // of the API, with its version
	APIID          string          `toml:"api_id"`
	APIKey         secret.Secret   `toml:"api_key"`
	APIKeyFile     string          `toml:"api_key_file"`
	APIKeyCommand  string          `toml:"api_key_command"`
	Domains        []string        `toml:"domains"`         // how names of lab machines end
	Pinned         []string        `toml:"pinned"`          // environments whose internal addresses are believed: ids or names
	Owner          bool            `toml:"owner"`           // tell who owns an environment: personal data
	Criteria       string          `toml:"criteria"`        // allowed or allvisible
	InventoryEvery config.Duration `toml:"inventory_every"` // at least 15m
	DailyCalls     int             `toml:"daily_calls"`
	Timeout        config.Duration `toml:"timeout"` // without a byte in either direction
	AllowHTTP      bool            `toml:"allow_http"`
	CAFile         string          `toml:"ca_file"`
	Pins           []string        `toml:"pins"` // "sha256/BASE64"

	Preserve         bool            `toml:"preserve"`         // may act at all
	PreserveFlagged  bool            `toml:"preserve_flagged"` // on a finding, without being asked
	PreserveDryRun   bool            `toml:"preserve_dry_run"` // say what would be done
	PreserveAllow    []string        `toml:"preserve_allow"`   // ids of environments
	PreserveCooldown config.Duration `toml:"preserve_cooldown"`
	ExtendBelow      config.Duration `toml:"extend_below"` // extend what expires sooner
	Suspend          bool            `toml:"suspend"`      // as the last step

	// Connecting is told of each connection, for captures to leave it out.
	Connecting httpx.Connecting `toml:"-"`
	// Self says the names and addresses of the machine that the agent runs on; nil:
	// what the system says.
	Self func() ([]string, []netip.Addr, error) `toml:"-"`
}

// DefaultURL is CloudShare's own.
const DefaultURL = "https://use.cloudshare.com/api/v3"

// Limits of a configuration.
const (
	maxKey       = 256 // bytes
	maxList      = 100
	minInventory = 15 * time.Minute
	minDaily     = 50
	maxDaily     = 100_000
	minTimeout   = time.Second
	minCooldown  = 10 * time.Minute
)

// DefaultConfig returns the values that apply where a configuration is silent.
func DefaultConfig() Config {
	return Config{
		URL:              DefaultURL,
		Domains:          []string{"vm.cld.sr", "vm.cld.dev"},
		Criteria:         "allowed",
		InventoryEvery:   config.Duration(minInventory),
		DailyCalls:       5000,
		Timeout:          config.Duration(30 * time.Second),
		PreserveDryRun:   true,
		PreserveCooldown: config.Duration(6 * time.Hour),
		ExtendBelow:      config.Duration(24 * time.Hour),
	}
}

// Validate returns what is wrong with the values that are set, each with its key
// ("cloudshare.url"). No text repeats a value. References in secrets must be resolved
// before.
func (c *Config) Validate() []*config.Error {
	var all []*config.Error
	check := func(key string, err error) {
		if err != nil {
			all = append(all, &config.Error{Key: "cloudshare." + key, Err: err})
		}
	}
	within := func(key string, ok bool, expected string) {
		if !ok {
			check(key, errors.New("expected "+expected))
		}
	}
	_, err := parseURL(c.URL, c.AllowHTTP)
	check("url", err)
	within("api_id", c.APIID == "" || apiID().MatchString(c.APIID), "an API id: letters and digits")
	key := c.APIKey.Reveal()
	within("api_key", key == "" || len(key) <= maxKey && apiKey().MatchString(key), "an API key: printable ASCII without blanks")
	check("domains", each(c.Domains, func(s string) bool { return domain().MatchString(s) && len(s) < maxHost }, `the end of a host name in lower case, with a dot inside: "vm.cld.sr"`))
	check("pinned", each(c.Pinned, func(s string) bool { return s != "" && device.Clean(s) == s }, "the id or the name of an environment"))
	within("criteria", c.Criteria == "allowed" || c.Criteria == "allvisible", `"allowed" or "allvisible"`)
	within("inventory_every", c.InventoryEvery.Std() >= minInventory, "at least 15m")
	within("daily_calls", c.DailyCalls >= minDaily && c.DailyCalls <= maxDaily, fmt.Sprintf("%d to %d", minDaily, maxDaily))
	within("timeout", c.Timeout.Std() >= minTimeout, "at least 1s")
	for _, pin := range c.Pins {
		_, err := httpx.ParsePin(pin)
		check("pins", err)
	}
	check("preserve_allow", each(c.PreserveAllow, identifier().MatchString, `the id of an environment: "EN..."`))
	if c.PreserveFlagged && !c.Preserve {
		check("preserve_flagged", errors.New("expected preserve = true besides"))
	}
	if c.Preserve && len(c.PreserveAllow) == 0 {
		check("preserve_allow", errors.New(`expected the ids of the environments that preserve may touch: "EN..."`))
	}
	within("preserve_cooldown", c.PreserveCooldown.Std() >= minCooldown, "at least 10m")
	return all
}

func each(list []string, right func(string) bool, expected string) error {
	if len(list) > maxList {
		return fmt.Errorf("expected at most %d", maxList)
	}
	if i := slices.IndexFunc(list, func(s string) bool { return !right(s) }); i >= 0 {
		return fmt.Errorf("entry %d: expected %s", i+1, expected)
	}
	return nil
}

// Missing returns the keys without which nothing can be asked. Where api_id is among
// them, CloudShare is not configured.
func (c *Config) Missing() []*config.Error {
	var all []*config.Error
	missing := func(key, text string) {
		all = append(all, &config.Error{Key: "cloudshare." + key, Err: errors.New("not set; expected " + text)})
	}
	if c.URL == "" {
		missing("url", `the address of the API, normally "`+DefaultURL+`"`)
	}
	if c.APIID == "" {
		missing("api_id", "the API id of a CloudShare user")
	}
	if c.APIKey.IsZero() {
		missing("api_key", "the API key that belongs to api_id")
	}
	return all
}

// Destination is the canonical base URL, without a final slash, or "" when URL is
// unusable.
func (c *Config) Destination() string {
	u, err := parseURL(c.URL, true)
	if err != nil {
		return ""
	}
	return u
}

var (
	apiID      = lazy.Regexp(`^[A-Za-z0-9_-]{1,100}$`)
	apiKey     = lazy.Regexp(`^[!-~]+$`)
	identifier = lazy.Regexp(`^[A-Za-z0-9_-]{1,64}$`)
	domain     = lazy.Regexp(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+$`)
	basePath   = lazy.Regexp(`^(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*$`)
)

// parseURL returns the base URL in the one form that is signed and sent.
func parseURL(text string, allowHTTP bool) (string, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Opaque != "" || u.Hostname() == "" {
		return "", errors.New(`expected a full URL such as "` + DefaultURL + `"`)
	}
	path := strings.TrimSuffix(u.EscapedPath(), "/")
	switch {
	case u.User != nil:
		return "", errors.New("expected no user name or password in the URL; they go into api_id and api_key")
	case u.RawQuery != "", u.ForceQuery, u.Fragment != "":
		return "", errors.New("expected no query and no fragment")
	case !basePath().MatchString(path):
		return "", errors.New("expected a path of plain words, normally /api/v3")
	case !plainHost().MatchString(u.Host):
		return "", errors.New("expected a host name")
	}
	host := strings.ToLower(u.Host)
	for scheme, port := range map[string]string{"https": ":443", "http": ":80"} {
		if u.Scheme == scheme {
			host = strings.TrimSuffix(host, port)
		}
	}
	if u.Scheme == "http" && !allowHTTP && !local(u.Hostname()) {
		return "", errors.New("expected https: nothing but TLS protects what CloudShare is told to do (allow_http = true permits it)")
	}
	return u.Scheme + "://" + host + path, nil
}

var plainHost = lazy.Regexp(`^([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]+)?$`)

// local says whether a name is this machine; httpx looks again at the address that
// it really connects to.
func local(host string) bool {
	ip, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && ip.Unmap().IsLoopback()
}
