package main

import (
	"context"
	"strings"

	"capagent/enrich/cado"
	"capagent/enrich/cloudshare"
	"capagent/enrich/cloudtrax"
	"capagent/enrich/threatconnect"
	"capagent/service"
	"capagent/upload"
)

// reachable asks each service that is configured something harmless, and says who
// answered. It ends with the first that does not.
func (a *app) reachable(ctx context.Context, cfg service.Config) (text string, err error) {
	log := a.commandLogger(cfg)
	known := []string{"the server knows the token"}
	for _, probe := range []struct {
		used bool
		says string
		ask  func() error
	}{
		{true, "", func() error { return ping(ctx, cfg.CloudShark) }},
		{cfg.ThreatConnect.URL != "", "ThreatConnect the key", func() error {
			client, err := threatconnect.New(cfg.ThreatConnect, version, log)
			if err != nil {
				return err
			}
			defer client.Close()
			return client.Check(ctx)
		}},
		{cfg.Cado.URL != "", "Cado the key", func() error {
			client, err := cado.New(cfg.Cado, version, log)
			if err != nil {
				return err
			}
			defer client.Close()
			if _, err := client.Probe(ctx); err != nil {
				return err
			}
			_, err = client.Projects(ctx, "")
			return err
		}},
		{cfg.CloudTrax.Key != "", "CloudTrax the key", func() error {
			reader, err := cloudtrax.NewReader(cfg.CloudTrax, version, log)
			if err != nil {
				return err
			}
			_, err = reader.Networks(ctx)
			return err
		}},
		{cfg.CloudShare.APIID != "", "CloudShare the key", func() error {
			client, err := cloudshare.New(cfg.CloudShare, version, log)
			if err != nil {
				return err
			}
			defer client.Close()
			return client.Ping(ctx)
		}},
	} {
		if !probe.used {
			continue
		}
		if err := probe.ask(); err != nil {
			return "", err
		}
		if probe.says != "" {
			known = append(known, probe.says)
		}
	}
	return strings.Join(known, ", "), nil
}

func ping(ctx context.Context, cfg upload.Config) error {
	client, err := upload.NewClient(cfg, version)
	if err != nil {
		return err
	}
	defer client.Close()
	_, err = client.Ping(ctx)
	return err
}
