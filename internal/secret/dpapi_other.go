//go:build !windows

package secret

import "errors"

// vault stands for the store that only Windows has.
type vault struct{}

func machineVault() vault { return vault{} }

var errNoDPAPI = errors.New("only Windows has DPAPI; servers use a _file key or a systemd credential, laptops the keyring")

func (vault) keep(string, Secret) error  { return errNoDPAPI }
func (vault) get(string) (Secret, error) { return Secret{}, errNoDPAPI }
func (vault) forget(string) error        { return errNoDPAPI }
