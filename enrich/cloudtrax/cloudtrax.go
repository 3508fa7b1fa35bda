// Package cloudtrax names the machines of captures by what CloudTrax knows of a
// network, and blocks clients where that was asked for
// (contracts/cloudshare-cloudtrax.md 2).
//
// A Reader keeps a snapshot of networks, access points, clients, SSIDs and switches,
// which it renews in the background at CloudTrax's own pace. Devices looks into the
// snapshot and nowhere else: no capture ever waits for CloudTrax. A Blocker is
// something of its own; a Reader can't form what a Blocker sends.
//
// What can be asked at all is the list in package api.
package cloudtrax

import (
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"capagent/enrich/cloudtrax/api"
	"capagent/internal/config"
	"capagent/internal/httpx"
)

// Name is what devices of CloudTrax give as their source.
const Name = "cloudtrax"

// history is how far back the client table goes that is asked for. Of captures that
// are older nothing is known.
const history = 2 * time.Hour

// dial returns what speaks to the CloudTrax of a configuration.
func dial(c Config, version string, log zerolog.Logger) (*api.Client, *httpx.Client, error) {
	if missing := c.Missing(); len(missing) > 0 {
		return nil, nil, config.Errors(missing)
	}
	if wrong := c.Validate(); len(wrong) > 0 {
		return nil, nil, config.Errors(wrong)
	}
	h, err := httpx.New(httpx.Options{
		UserAgent: "capagent/" + version, Table: "cloudtrax",
		AllowHTTP: c.AllowHTTP, CAFile: c.CAFile, Pins: c.Pins,
		IdleTimeout: c.Timeout.Std(), ConnectTimeout: c.Timeout.Std(),
		MaxReply: api.MaxReply, Connecting: c.Connecting,
	})
	if err != nil {
		return nil, nil, fmt.Errorf("[cloudtrax] %w", err)
	}
	return newAPI(c, h, log), h, nil
}

func newAPI(c Config, h api.Doer, log zerolog.Logger) *api.Client {
	return api.New(api.Options{Origin: c.Destination(), Key: c.Key, Secret: c.Secret, HTTP: h, Log: log})
}

// chosen keeps the networks that a configuration names. Those that the list does not
// have are asked for all the same: a key may know its network and not the list.
func chosen(c Config, seen []network) []network {
	if len(c.Networks) == 0 {
		return seen
	}
	var out []network
	for _, text := range c.Networks {
		id, _ := api.ParseID(text) // Validate saw it
		n := network{id: id}
		for _, s := range seen {
			if s.id == id {
				n = s
			}
		}
		out = append(out, n)
	}
	return out
}
