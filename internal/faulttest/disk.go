//go:build linux

package faulttest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Disk is a file system of its own in an image file, whose power can be cut.
type Disk struct {
	Mount string // where it is

	kind, options, image string
}

// CanMount says whether file systems can be mounted here, with the reason.
func CanMount(kinds ...string) error {
	if os.Geteuid() != 0 {
		return errors.New("only root mounts file systems")
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		return err
	}
	for _, kind := range kinds {
		if _, err := exec.LookPath("mkfs." + kind); err != nil {
			return err
		}
	}
	return nil
}

// NewDisk makes a file system ("ext4" or "xfs") in the file image and mounts it
// at mount, which it makes, with options, "" for none. Close it.
func NewDisk(image, mount, kind, options string) (*Disk, error) {
	d := &Disk{Mount: mount, kind: kind, options: options, image: image}
	size, args := int64(96<<20), []string{"-q", "-F", "-m", "0", d.image}
	if kind == "xfs" {
		size, args = 320<<20, []string{"-q", "-f", d.image} // the least that mkfs.xfs takes
	}
	if err := os.MkdirAll(d.Mount, 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(d.image, nil, 0o600); err != nil {
		return nil, err
	}
	if err := os.Truncate(d.image, size); err != nil {
		return nil, err
	}
	if err := command("mkfs."+kind, args...); err != nil {
		return nil, err
	}
	return d, d.mount()
}

func (d *Disk) mount() error {
	options := "loop"
	if d.options != "" {
		options += "," + d.options
	}
	return command("mount", "-t", d.kind, "-o", options, d.image, d.Mount)
}

// Cut takes the power away: from now on nothing reaches the disk, and what was
// not synced is gone. Whoever uses the disk must stand still (Process.Freeze),
// or would be told lies: on XFS an fsync of a folder behind the cut returns 0.
func (d *Disk) Cut() error {
	const (
		goingDown  = 0x8004587d // EXT4_IOC_SHUTDOWN and XFS_IOC_GOINGDOWN
		noLogFlush = 2
	)
	f, err := os.Open(d.Mount)
	if err != nil {
		return err
	}
	defer f.Close()
	flags := uint32(noLogFlush)
	if err := ioctl(int(f.Fd()), goingDown, unsafe.Pointer(&flags)); err != nil {
		return fmt.Errorf("cut the power of %s: %w", d.Mount, err)
	}
	return nil
}

// Disks are file systems that lose their power together, those that are mounted
// on others behind them.
type Disks []*Disk

// Cut takes the power from all of them.
func (ds Disks) Cut() error {
	var errs []error
	for _, d := range ds {
		errs = append(errs, d.Cut())
	}
	return errors.Join(errs...)
}

// Restore mounts them again as they are found after Cut.
func (ds Disks) Restore() error {
	for _, d := range slices.Backward(ds) {
		if err := d.unmount(); err != nil {
			return err
		}
	}
	for _, d := range ds {
		if err := d.mount(); err != nil {
			return err
		}
	}
	return nil
}

// Close unmounts them and removes the images.
func (ds Disks) Close() error {
	var errs []error
	for _, d := range slices.Backward(ds) {
		errs = append(errs, d.Close())
	}
	return errors.Join(errs...)
}

// unmount waits until the loop device is gone: a mount before that would give
// the same file system back, still cut.
func (d *Disk) unmount() error {
	for until := time.Now().Add(5 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		err := unix.Unmount(d.Mount, 0)
		if err == nil || errors.Is(err, unix.EINVAL) {
			break
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(until) {
			return fmt.Errorf("unmount %s: %w", d.Mount, err)
		}
	}
	for until := time.Now().Add(5 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		used, err := d.attached()
		if !used || err != nil {
			return err
		}
		if time.Now().After(until) {
			return fmt.Errorf("unmount %s: its loop device stays", d.Mount)
		}
	}
}

// attached says whether a loop device has the image.
func (d *Disk) attached() (bool, error) {
	files, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return false, err
	}
	for _, name := range files {
		if text, err := os.ReadFile(name); err == nil && strings.TrimSpace(string(text)) == d.image {
			return true, nil
		}
	}
	return false, nil
}

// Close unmounts the disk, by force if need be, and removes the image.
func (d *Disk) Close() error {
	err := d.unmount()
	if err != nil {
		_ = unix.Unmount(d.Mount, unix.MNT_DETACH)
	}
	return errors.Join(err, os.Remove(d.image))
}

// Tmpfs mounts a file system in memory at dir, which it makes, with options as
// "size=8m". The result unmounts it.
func Tmpfs(dir, options string) (unmount func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		return nil, fmt.Errorf("mount %s: %w", dir, err)
	}
	return func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }, nil
}

// ReadOnly makes a mounted file system read-only, or writable again.
func ReadOnly(dir string, on bool) error {
	how := "remount,rw"
	if on {
		how = "remount,ro"
	}
	return command("mount", "-o", how, dir)
}

// Immutable forbids, or allows again, every change of a folder's names.
func Immutable(dir string, on bool) error {
	how := "-i"
	if on {
		how = "+i"
	}
	return command("chattr", "-R", how, dir)
}

func command(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil { //nolint:noctx // short, and unmounting must not be cut off
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}
