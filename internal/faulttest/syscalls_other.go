//go:build linux && !amd64

package faulttest

var legacyCalls []hookedCall
