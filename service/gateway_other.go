//go:build !linux

package service

import "capagent/enrich/device"

// gatewayMACs are not known here: what CloudTrax knows of gateways has to do.
func gatewayMACs() []device.MAC { return nil }
