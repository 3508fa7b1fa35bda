//go:build !unix

package pcapfile

const noFollow = 0
