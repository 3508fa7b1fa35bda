package cloudtrax

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"capagent/enrich/cloudtrax/api"
	"capagent/enrich/device"
	"capagent/internal/config"
	"capagent/internal/httpx"
	"capagent/internal/lazy"
	"capagent/internal/secret"
)

// Config is the table [cloudtrax]. Without a key there is no CloudTrax.
type Config struct {
	URL           string          `toml:"url"`
	Key           string          `toml:"key"` // best one for this network alone, read-only
	Secret        secret.Secret   `toml:"secret"`
	SecretFile    string          `toml:"secret_file"`
	SecretCommand string          `toml:"secret_command"`
	Networks      []string        `toml:"networks"`       // ids; none: all that the key may see
	ClientsEvery  config.Duration `toml:"clients_every"`  // how often who is there is asked for
	NodesEvery    config.Duration `toml:"nodes_every"`    // access points
	SwitchesEvery config.Duration `toml:"switches_every"` // and their ports
	SurveyEvery   config.Duration `toml:"survey_every"`   // access points of others; 0: never
	HashMACs      bool            `toml:"hash_macs"`      // tell hardware addresses as digests
	AllowHTTP     bool            `toml:"allow_http"`
	CAFile        string          `toml:"ca_file"`
	Pins          []string        `toml:"pins"`    // "sha256/BASE64"
	Timeout       config.Duration `toml:"timeout"` // without a byte in either direction

	Block        bool            `toml:"block"`          // clients may be blocked
	BlockDryRun  bool            `toml:"block_dry_run"`  // say what would be done, and don't
	BlockNever   []string        `toml:"block_never"`    // hardware addresses
	BlockOn      []string        `toml:"block_on"`       // indicators: the client of a finding of one is blocked
	BlockPerHour int             `toml:"block_per_hour"` // at most
	BlockFor     config.Duration `toml:"block_for"`      // unless said otherwise

	// Connecting is told of each connection, for captures to leave it out.
	Connecting httpx.Connecting `toml:"-"`
}

// Limits of a configuration.
const (
	maxSecret   = 4096 // bytes
	maxNetworks = 200
	maxNever    = 10_000
	maxPerHour  = 100
	minBlock    = time.Minute
	maxBlock    = 30 * 24 * time.Hour
	minEvery    = time.Minute // the access points report every 5 minutes
	maxEvery    = 8 * time.Hour
)

// DefaultConfig returns the values that apply where a configuration is silent.
func DefaultConfig() Config {
	return Config{
		URL:          "https://api.cloudtrax.com",
		ClientsEvery: config.Duration(5 * time.Minute), NodesEvery: config.Duration(15 * time.Minute),
		SwitchesEvery: config.Duration(20 * time.Minute), SurveyEvery: config.Duration(time.Hour),
		Timeout:     config.Duration(30 * time.Second),
		BlockDryRun: true, BlockPerHour: 3, BlockFor: config.Duration(time.Hour),
	}
}

var (
	keyWord    = lazy.Regexp(`^[A-Za-z0-9._~-]{1,200}$`)
	secretWord = lazy.Regexp(`^[!-~]+$`)
)

// Validate returns what is wrong with the values that are set, each with its key
// ("cloudtrax.url"). No text repeats a value. References in secrets must be resolved
// before.
func (c *Config) Validate() []*config.Error {
	var all []*config.Error
	check := func(key string, err error) {
		if err != nil {
			all = append(all, &config.Error{Key: "cloudtrax." + key, Err: err})
		}
	}
	within := func(key string, ok bool, expected string) {
		if !ok {
			check(key, errors.New("expected "+expected))
		}
	}
	_, err := parseURL(c.URL, c.AllowHTTP)
	check("url", err)
	within("key", c.Key == "" || keyWord().MatchString(c.Key), "an API key: letters and digits")
	if s := c.Secret.Reveal(); s != "" && (len(s) > maxSecret || !secretWord().MatchString(s)) {
		check("secret", errors.New("expected the secret of an API key: printable ASCII without blanks"))
	}
	within("networks", len(c.Networks) <= maxNetworks, fmt.Sprintf("at most %d networks", maxNetworks))
	for i, text := range c.Networks {
		_, ok := api.ParseID(text)
		within("networks", ok, fmt.Sprintf("digits only: network %d is no id", i+1))
	}
	every := func(key string, d config.Duration, most time.Duration) {
		within(key, d.Std() >= minEvery && d.Std() <= most, fmt.Sprintf("%s to %s", config.Duration(minEvery), config.Duration(most)))
	}
	every("clients_every", c.ClientsEvery, history/2)
	every("nodes_every", c.NodesEvery, maxEvery)
	every("switches_every", c.SwitchesEvery, maxEvery)
	if c.SurveyEvery != 0 {
		every("survey_every", c.SurveyEvery, maxEvery)
	}
	within("timeout", c.Timeout.Std() >= time.Second, "at least 1s")
	within("block_on", len(c.BlockOn) == 0 || c.Block && len(c.BlockOn) <= maxNever, fmt.Sprintf("at most %d indicators, and block = true", maxNever))
	within("block_never", len(c.BlockNever) <= maxNever, fmt.Sprintf("at most %d addresses", maxNever))
	for i, text := range c.BlockNever {
		_, ok := device.ParseMAC(text)
		within("block_never", ok, fmt.Sprintf(`hardware addresses such as "00:11:22:aa:bb:cc": entry %d is none`, i+1))
	}
	within("block_per_hour", c.BlockPerHour >= 0 && c.BlockPerHour <= maxPerHour, fmt.Sprintf("0 to %d", maxPerHour))
	within("block_for", c.BlockFor.Std() >= minBlock && c.BlockFor.Std() <= maxBlock, fmt.Sprintf("%s to %s", config.Duration(minBlock), config.Duration(maxBlock)))
	for _, pin := range c.Pins {
		_, err := httpx.ParsePin(pin)
		check("pins", err)
	}
	return all
}

// Missing returns the keys without which nothing can be asked. Where key is among
// them, CloudTrax is not configured.
func (c *Config) Missing() []*config.Error {
	var all []*config.Error
	missing := func(key, text string) {
		all = append(all, &config.Error{Key: "cloudtrax." + key, Err: errors.New("not set; expected " + text)})
	}
	if c.Key == "" {
		missing("key", "an API key of CloudTrax, best a read-only one for your network alone")
	}
	if c.Secret.IsZero() {
		missing("secret", "the secret that belongs to key")
	}
	return all
}

// Destination is the canonical address, without a final slash, or "" when URL is
// unusable.
func (c *Config) Destination() string {
	origin, err := parseURL(c.URL, true)
	if err != nil {
		return ""
	}
	return origin
}

// parseURL returns an address without a path: what is signed is the path.
func parseURL(text string, allowHTTP bool) (origin string, err error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Opaque != "" || u.Hostname() == "":
		return "", errors.New(`expected a full URL such as "https://api.cloudtrax.com"`)
	case u.User != nil:
		return "", errors.New("expected no user name or password in the URL; they go into key and secret")
	case u.RawQuery != "", u.ForceQuery, u.Fragment != "", strings.TrimSuffix(u.Path, "/") != "":
		return "", errors.New("expected no path and no query after the host")
	case strings.ContainsAny(u.Host, " \"<>\\^`{|}"):
		return "", errors.New("expected a host name")
	}
	ip, err := netip.ParseAddr(u.Hostname())
	local := strings.EqualFold(u.Hostname(), "localhost") || err == nil && ip.Unmap().IsLoopback()
	if u.Scheme == "http" && !allowHTTP && !local {
		return "", errors.New("expected https: plain http would show names and keys on the network (allow_http = true permits it)")
	}
	host := strings.ToLower(u.Host)
	if port := map[string]string{"https": ":443", "http": ":80"}[u.Scheme]; strings.HasSuffix(host, port) {
		host = strings.TrimSuffix(host, port)
	}
	return u.Scheme + "://" + host, nil
}
