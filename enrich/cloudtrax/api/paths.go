package api

import (
	"encoding/json"

	"capagent/internal/lazy"
)

// path is the target of a request. It is made in this file only; a test looks.
type path struct{ target string }

// Read is something that can be asked for without an effect.
type Read struct{ path path }

// Action is something that changes a network.
type Action struct {
	path path
	body []byte // JSON, exactly as it is signed and sent
}

// ID is the number of a network or of a switch.
type ID struct{ digits string }

var (
	isID  = lazy.Regexp(`^[0-9]{1,20}$`)
	isCID = lazy.Regexp(`^[A-Za-z0-9_=-]{1,128}$`)
)

// ParseID takes digits and nothing else.
func ParseID(text string) (ID, bool) {
	if !isID().MatchString(text) {
		return ID{}, false
	}
	return ID{text}, true
}

func (i ID) String() string { return i.digits }

// MarshalText gives the form of String.
func (i ID) MarshalText() ([]byte, error) { return []byte(i.digits), nil }

// CID is what CloudTrax calls a client by. It is no hardware address.
type CID struct{ text string }

// ParseCID takes a client's id of either form, a number or URL-safe base64.
func ParseCID(text string) (CID, bool) {
	if !isCID().MatchString(text) {
		return CID{}, false
	}
	return CID{text}, true
}

func (c CID) String() string { return c.text }

// read fills an id in, where there is one. Without one the path is empty, which
// nothing sends.
func read(before string, id ID, after string) Read {
	if id.digits == "" {
		return Read{}
	}
	return Read{path{before + id.digits + after}}
}

// Networks asks which networks the key may see.
func Networks() Read { return Read{path{"/network/list"}} }

// Nodes asks for the access points of a network.
func Nodes(network ID) Read { return read("/node/network/", network, "/list") }

// Clients asks who used a network during the last two hours.
func Clients(network ID) Read { return read("/history/network/", network, "/clients?period=2hours") }

// ClientsOfDay asks who used a network during the last day.
func ClientsOfDay(network ID) Read { return read("/history/network/", network, "/clients?period=day") }

// Switches asks for the switches of a network.
func Switches(network ID) Read { return read("/switch/network/", network, "/list") }

// Switch asks for the ports of a switch.
func Switch(id ID) Read { return read("/switch/", id, "") }

// Survey asks which access points of others were heard.
func Survey(network ID) Read { return read("/sitesurvey/network/", network, "") }

// Settings asks for the settings of a network. The reply holds passwords.
func Settings(network ID) Read { return read("/network/", network, "/settings") }

// Blocked asks who is blocked.
func Blocked(network ID) Read { return read("/client/network/", network, "/block") }

// Block blocks a client of a network, or ends that (contract 2.3).
func Block(network ID, client CID, block bool) Action {
	if network.digits == "" || client.text == "" {
		return Action{}
	}
	order := struct {
		Block     int      `json:"block"`
		ClientIDs []string `json:"client_ids"`
	}{0, []string{client.text}}
	if block {
		order.Block = 1
	}
	body, err := json.Marshal(order)
	if err != nil {
		return Action{} // a number and a checked word: cannot happen
	}
	return Action{path{"/client/network/" + network.digits + "/block"}, body}
}
