package main

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strings"

	"github.com/rs/zerolog"

	"capagent/enrich/cadotest"
	"capagent/enrich/cloudsharetest"
	"capagent/enrich/cloudtraxtest"
	"capagent/enrich/device"
	"capagent/internal/standin"
)

// platform is one of the smaller stand-ins of the sandbox: Cado, CloudTrax, CloudShare.
type platform struct {
	name  string // of its table, and what its faults begin with
	title string // for people
	kinds []standin.Kind
	// start makes the stand-in that will be at base, and the table by which it is used.
	start func(p platformSetup) (*standin.Server, string)
}

// platformSetup is what a stand-in is made with.
type platformSetup struct {
	base    string
	key     string // what its clients show
	keyFile string
	dir     string // for what it keeps
	log     zerolog.Logger
	shared  *sandboxShared
}

// sandboxShared is what one stand-in tells those after it.
type sandboxShared struct {
	store    *cadotest.Store
	endpoint string
	keyFile  string
}

// sandboxS3 is the store that Cado's stand-in reads from.
const sandboxS3 = "s3"

// sandboxS3Key is no secret: it looks like one that Amazon gives.
const sandboxS3Key = "AKIASANDBOX000000001"

// demoDevice is the machine of the example captures that CloudTrax knows: that of the
// branch office whose traffic is bad.
var demoDevice = device.MAC{0x00, 0x00, 0x5e, 0x00, 0x53, 0xb2}

// The example captures speak with this name; in the sandbox it is a lab machine's.
const demoLab, demoLabAddress = "portal.example.com", "192.0.2.80"

func platforms() []platform {
	return []platform{
		{sandboxS3, "S3", nil, func(p platformSetup) (*standin.Server, string) {
			s := cadotest.NewStore(cadotest.StoreOptions{Dir: p.dir, AccessKeyID: sandboxS3Key, SecretAccessKey: p.key, Log: p.log})
			p.shared.store, p.shared.endpoint, p.shared.keyFile = s, p.base, p.keyFile
			return s.Server, ""
		}},
		{"cado", "Cado", cadotest.Kinds(), func(p platformSetup) (*standin.Server, string) {
			s := cadotest.New(cadotest.Options{APIKey: p.key, Polls: 2, LoopbackNames: true, KeepRequests: 1000, BaseURL: p.base, Log: p.log, Store: p.shared.store})
			return s.Server, fmt.Sprintf("[cado]\nurl = %q\napi_key_file = %q\nimport = \"flagged\"\npoll = \"1s\"\nbucket = %q\nregion = \"us-east-1\"\nendpoint = %q\npath_style = true\naccess_key_id = %q\nsecret_access_key_file = %q\n",
				p.base, p.keyFile, p.shared.store.Bucket, p.shared.endpoint, sandboxS3Key, p.shared.keyFile)
		}},
		{"cloudtrax", "CloudTrax", cloudtraxtest.Kinds(), func(p platformSetup) (*standin.Server, string) {
			const key = "sandbox"
			s := cloudtraxtest.New(cloudtraxtest.Options{Key: key, Secret: p.key, AlwaysCurrent: true, LoopbackNames: true, KeepRequests: 1000, BaseURL: p.base, Log: p.log})
			s.Demo(demoDevice)
			return s.Server, fmt.Sprintf("[cloudtrax]\nurl = %q\nkey = %q\nsecret_file = %q\nblock = true\n", p.base, key, p.keyFile)
		}},
		{"cloudshare", "CloudShare", cloudsharetest.Kinds(), func(p platformSetup) (*standin.Server, string) {
			const id = "SANDBOX000000001"
			s := cloudsharetest.New(cloudsharetest.Options{APIID: id, APIKey: p.key, LoopbackNames: true, KeepRequests: 1000, BaseURL: p.base, Log: p.log})
			lab := s.Demo(demoLab, demoLabAddress)
			return s.Server, fmt.Sprintf("[cloudshare]\nurl = %q\napi_id = %q\napi_key_file = %q\ndomains = [\"example.com\"]\npreserve = true\npreserve_allow = [%q]\n",
				p.base+strings.TrimSuffix(cloudsharetest.Prefix, "/"), id, p.keyFile, lab)
		}},
	}
}

// sandboxPlatform is a platform that listens.
type sandboxPlatform struct {
	platform
	server   *standin.Server
	listener net.Listener
	url      string
	table    string
}

// startPlatforms makes all of them, each on a free port of loopback.
func (a *app) startPlatforms(ctx context.Context, dir string, log zerolog.Logger) ([]sandboxPlatform, error) {
	var out []sandboxPlatform
	var shared sandboxShared
	for _, p := range platforms() {
		l, err := listenLoopback(ctx, p.name, "127.0.0.1:0")
		if err != nil {
			return out, err
		}
		one := sandboxPlatform{platform: p, listener: l, url: "http://" + l.Addr().String()}
		file := filepath.Join(dir, p.name+"-key")
		key, err := a.sandboxKey(file, true)
		if err != nil {
			return append(out, one), err
		}
		one.server, one.table = p.start(platformSetup{one.url, key, file, filepath.Join(dir, p.name), log, &shared})
		out = append(out, one)
	}
	return out, nil
}

// fault gives a fault to the platform that its text names; false when it names none.
func platformFault(text string) (name string, f standin.Fault, ok bool, err error) {
	for _, p := range platforms() {
		if rest, named := strings.CutPrefix(text, p.name+":"); named {
			f, err := standin.ParseFault(rest, p.kinds)
			return p.name, f, true, err
		}
	}
	return "", f, false, nil
}
