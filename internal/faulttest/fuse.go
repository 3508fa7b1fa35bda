//go:build linux && (amd64 || arm64)

package faulttest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// BadFS is a FUSE file system over a plain folder. Its calls fail when told so,
// and what is made in the plain folder behind its back causes no event, as on a
// network file system.
type BadFS struct {
	Mount  string // what its users see
	Behind string // the plain folder

	read, write, fsync atomic.Uint32
	server             *fuse.Server
}

// NewBadFS mounts one in dir. Close it.
func NewBadFS(dir string) (*BadFS, error) {
	b := &BadFS{Mount: filepath.Join(dir, "mount"), Behind: filepath.Join(dir, "behind")}
	for _, d := range []string{b.Mount, b.Behind} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, err
		}
	}
	root, err := fs.NewLoopbackRoot(b.Behind)
	if err != nil {
		return nil, fmt.Errorf("fuse: %w", err)
	}
	soon := 100 * time.Millisecond
	wrapped := &badNode{root.(*fs.LoopbackNode), b}
	wrapped.RootData.RootNode = wrapped
	b.server, err = fs.Mount(b.Mount, wrapped, &fs.Options{
		EntryTimeout: &soon, AttrTimeout: &soon,
		MountOptions: fuse.MountOptions{DirectMountStrict: true, FsName: "bad", Name: "bad", DisableXAttrs: true},
	})
	if err != nil {
		return nil, fmt.Errorf("fuse: %w", err)
	}
	return b, nil
}

// FailReads has every read answer e from now on; 0 ends that. So do the others.
func (b *BadFS) FailReads(e syscall.Errno)  { b.read.Store(uint32(e)) }
func (b *BadFS) FailWrites(e syscall.Errno) { b.write.Store(uint32(e)) }
func (b *BadFS) FailFsyncs(e syscall.Errno) { b.fsync.Store(uint32(e)) }

// Close unmounts it.
func (b *BadFS) Close() error {
	if err := b.server.Unmount(); err != nil {
		_ = syscall.Unmount(b.Mount, syscall.MNT_DETACH)
		return err
	}
	return nil
}

type badNode struct {
	*fs.LoopbackNode
	b *BadFS
}

func (n *badNode) WrapChild(_ context.Context, ops fs.InodeEmbedder) fs.InodeEmbedder {
	return &badNode{ops.(*fs.LoopbackNode), n.b}
}

func (n *badNode) Open(ctx context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	h, _, errno := n.LoopbackNode.Open(ctx, flags)
	if errno != 0 {
		return nil, 0, errno
	}
	return &badFile{h.(*fs.LoopbackFile), n.b}, fuse.FOPEN_DIRECT_IO, 0
}

func (n *badNode) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	inode, h, _, errno := n.LoopbackNode.Create(ctx, name, flags, mode, out)
	if errno != 0 {
		return nil, nil, 0, errno
	}
	return inode, &badFile{h.(*fs.LoopbackFile), n.b}, fuse.FOPEN_DIRECT_IO, 0
}

type badFile struct {
	*fs.LoopbackFile
	b *BadFS
}

// PassthroughFd keeps the kernel from going past the faults.
func (f *badFile) PassthroughFd() (int, bool) { return 0, false }

func (f *badFile) Read(ctx context.Context, buf []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	if e := f.b.read.Load(); e != 0 {
		return nil, syscall.Errno(e)
	}
	return f.LoopbackFile.Read(ctx, buf, off)
}

func (f *badFile) Write(ctx context.Context, data []byte, off int64) (uint32, syscall.Errno) {
	if e := f.b.write.Load(); e != 0 {
		return 0, syscall.Errno(e)
	}
	return f.LoopbackFile.Write(ctx, data, off)
}

func (f *badFile) Fsync(ctx context.Context, flags uint32) syscall.Errno {
	if e := f.b.fsync.Load(); e != 0 {
		return syscall.Errno(e)
	}
	return f.LoopbackFile.Fsync(ctx, flags)
}
