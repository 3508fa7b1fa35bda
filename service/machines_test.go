package service

import (
	"strings"
	"testing"

	"capagent/enrich/device"
	"capagent/internal/secret"
)

// TestHardwareAddressesAsDigests: the same for the same device, others for others and
// under another secret.
func TestHardwareAddressesAsDigests(t *testing.T) {
	a := &Agent{}
	one, two := device.MAC{0, 1}, device.MAC{0, 2}
	if got := a.macText(one); got != one.String() {
		t.Error(got)
	}
	a.Config.CloudTrax.HashMACs, a.Config.CloudTrax.Secret = true, secret.New("a secret")
	first := a.macText(one)
	if first != a.macText(one) || first == a.macText(two) || strings.Contains(first, ":") {
		t.Error(first, a.macText(two))
	}
	a.Config.CloudTrax.Secret = secret.New("another")
	if first == a.macText(one) {
		t.Error("the secret does not matter")
	}
}

// TestDevicesAreCutToWhatTheLedgerKeeps: as many as fit, and valid JSON.
func TestDevicesAreCutToWhatTheLedgerKeeps(t *testing.T) {
	list := make([]device.Device, device.MaxDevices)
	for i := range list {
		list[i] = device.Device{Source: "x", Name: strings.Repeat("n", 60), Details: []string{strings.Repeat("d", 60), strings.Repeat("e", 60), strings.Repeat("f", 60), strings.Repeat("g", 60)}}
	}
	data, err := encodeDevices(list)
	if err != nil || len(data) == 0 {
		t.Fatal(len(data), err)
	}
	if got, err := device.Decode(data); err != nil || len(got) == 0 || len(got) == len(list) {
		t.Errorf("%d of %d, %v", len(got), len(list), err)
	}
	if data, err := encodeDevices(nil); err != nil || data != nil {
		t.Errorf("%s %v", data, err)
	}
}
