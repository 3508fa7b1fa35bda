package cloudshare

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"capagent/enrich/device"
)

// Bounds of what is kept of a reply.
const (
	maxEnvironments = 1000
	maxMachines     = 200 // of an environment
	maxAddresses    = 16  // of a machine
	maxSnapshots    = 100
	maxHost         = 253 // bytes of a name
)

// The status codes of an environment (contracts/cloudshare-cloudtrax.md 1.3).
const (
	statusReady    = 2
	statusSnapshot = 7
)

// environment is a lab as far as it is kept. All text is device.Clean, all ids are
// identifiers.
type environment struct {
	ID, Name, Project string
	Owner             string // "" unless it is configured
	Status            int    // 0 when unknown
	StatusText        string
	Expires           time.Time // when it is deleted; zero when unknown
	VMs               []machine
}

// machine is a virtual machine of a lab.
type machine struct {
	ID, Name string
	FQDN     string // in the form that indicators have; "" while it is off
	External netip.Addr
	Internal []netip.Addr
}

// runs says that machines of it may send packets.
func (e *environment) runs() bool {
	return e.Status == statusReady || e.Status == statusSnapshot || e.Status == 0 && strings.EqualFold(e.StatusText, "Ready")
}

// The types below take what servers really send: none of them fails, what can't be
// understood is unset.

// text is a string; a number or truth value is its text.
type text string

func (t *text) UnmarshalJSON(data []byte) error {
	var s string
	*t = ""
	switch {
	case string(data) == "null", data[0] == '{', data[0] == '[':
	case data[0] != '"':
		*t = text(data)
	case json.Unmarshal(data, &s) == nil:
		*t = text(s)
	}
	return nil
}

// number is a whole number of 0 or more, that may come as a string.
type number int

func (n *number) UnmarshalJSON(data []byte) error {
	i, err := strconv.ParseInt(strings.Trim(string(data), `" `), 10, 32)
	if err != nil || i < 0 {
		i = 0
	}
	*n = number(i)
	return nil
}

// truth is true, or "true", or not.
type truth bool

func (b *truth) UnmarshalJSON(data []byte) error {
	*b = truth(strings.EqualFold(strings.Trim(string(data), `" `), "true"))
	return nil
}

// decodeList decodes at most most elements of a list, those that can be. The rest is not
// looked at: a page of empty objects would take a hundred times its size.
func decodeList[T any](data []byte, most int) (list []T) {
	dec := json.NewDecoder(bytes.NewReader(data))
	if t, err := dec.Token(); err != nil || t != json.Delim('[') {
		return nil
	}
	for dec.More() && most > 0 {
		var raw json.RawMessage
		if dec.Decode(&raw) != nil {
			break
		}
		most--
		var one T
		if json.Unmarshal(raw, &one) == nil {
			list = append(list, one)
		}
	}
	return list
}

type rawMachine struct {
	ID       text            `json:"id"`
	Name     text            `json:"name"`
	FQDN     text            `json:"fqdn"`
	External text            `json:"externalAddress"`
	Internal json.RawMessage `json:"internalAddresses"`
}

type rawEnvironment struct {
	ID         text            `json:"id"`
	Name       text            `json:"name"`
	Project    text            `json:"projectName"`
	Owner      text            `json:"ownerEmail"`
	Status     text            `json:"status"` // of a list
	StatusCode number          `json:"statusCode"`
	StatusText text            `json:"statusText"`
	Expires    text            `json:"expirationTime"`
	VMs        json.RawMessage `json:"vms"`
}

// decodeEnvironments reads the list of environments.
func decodeEnvironments(data []byte, owner bool) []environment {
	var list []environment
	for _, raw := range decodeList[rawEnvironment](data, maxEnvironments) {
		if e, ok := raw.keep(owner); ok {
			list = append(list, e)
		}
	}
	return list
}

// decodeEnvironment reads what getextended answers; ok is false when that is no
// environment.
func decodeEnvironment(data []byte, owner bool) (e environment, ok bool) {
	var raw rawEnvironment
	if len(data) == 0 || json.Unmarshal(data, &raw) != nil {
		return environment{}, false
	}
	if e, ok = raw.keep(owner); !ok {
		return e, false
	}
	for _, vm := range decodeList[rawMachine](raw.VMs, maxMachines) {
		if m, ok := vm.keep(); ok {
			e.VMs = append(e.VMs, m)
		}
	}
	return e, true
}

func (r rawEnvironment) keep(owner bool) (environment, bool) {
	e := environment{
		ID: string(r.ID), Name: device.Clean(string(r.Name)), Project: device.Clean(string(r.Project)),
		Status: int(r.StatusCode), StatusText: device.Clean(string(r.StatusText)), Expires: parseTime(string(r.Expires)),
	}
	if e.StatusText == "" {
		e.StatusText = device.Clean(string(r.Status))
	}
	if owner {
		e.Owner = device.Clean(string(r.Owner))
	}
	if !identifier().MatchString(e.ID) {
		return environment{}, false
	}
	e.ID = strings.Clone(e.ID) // not the reply that it is a piece of
	if e.Name == "" {
		e.Name = e.ID
	}
	return e, true
}

func (r rawMachine) keep() (machine, bool) {
	m := machine{ID: string(r.ID), Name: device.Clean(string(r.Name)), FQDN: hostName(string(r.FQDN)), External: address(string(r.External))}
	if !identifier().MatchString(m.ID) {
		return machine{}, false
	}
	m.ID = strings.Clone(m.ID)
	for _, a := range decodeList[text](r.Internal, maxAddresses) {
		if ip := address(string(a)); ip.IsValid() {
			m.Internal = append(m.Internal, ip)
		}
	}
	return m, true
}

// hostName is a name in the form that indicators have, or "" when it is none.
func hostName(s string) string {
	s = strings.ToLower(strings.TrimSuffix(s, "."))
	if len(s) > maxHost || !domain().MatchString(s) {
		return ""
	}
	return strings.Clone(s)
}

// address is one that a machine can have, or the zero Addr.
func address(s string) netip.Addr {
	if len(s) > 64 {
		return netip.Addr{}
	}
	ip, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}
	}
	return plainAddress(ip)
}

func plainAddress(ip netip.Addr) netip.Addr {
	ip = ip.Unmap().WithZone("")
	if !ip.IsGlobalUnicast() {
		return netip.Addr{}
	}
	return ip
}

// parseTime reads RFC 1123, which is documented, and RFC 3339.
func parseTime(s string) time.Time {
	if len(s) > 40 {
		return time.Time{}
	}
	t, err := http.ParseTime(s)
	if err != nil {
		t, err = time.Parse(time.RFC3339, s)
	}
	if err != nil || t.Year() < 2000 || t.Year() > 9999 {
		return time.Time{}
	}
	return t.UTC()
}

// snapshot is one that an environment has.
type snapshot struct {
	Name      string
	IsDefault bool
}

// decodeSnapshots reads the snapshots of an environment, all that there are; ok is false
// when that is no list.
func decodeSnapshots(data []byte) (list []snapshot, ok bool) {
	if !bytes.HasPrefix(bytes.TrimSpace(data), []byte("[")) {
		return nil, false
	}
	for _, raw := range decodeList[json.RawMessage](data, maxSnapshots) {
		var s struct {
			Name    text  `json:"name"`
			Default truth `json:"isDefault"`
		}
		_ = json.Unmarshal(raw, &s) // what is not understood is one, too
		list = append(list, snapshot{device.Clean(string(s.Name)), bool(s.Default)})
	}
	return list, true
}
