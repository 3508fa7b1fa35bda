package doctor

import "golang.org/x/sys/unix"

// kinds are those of statfs(2) that a ledger does not belong on, and the usual others.
var kinds = map[uint32]fsKind{
	unix.NFS_SUPER_MAGIC:   {name: "nfs", remote: true},
	unix.SMB_SUPER_MAGIC:   {name: "smb", remote: true},
	unix.CIFS_SUPER_MAGIC:  {name: "cifs", remote: true},
	unix.SMB2_SUPER_MAGIC:  {name: "smb", remote: true},
	unix.CEPH_SUPER_MAGIC:  {name: "ceph", remote: true},
	unix.AFS_SUPER_MAGIC:   {name: "afs", remote: true},
	unix.CODA_SUPER_MAGIC:  {name: "coda", remote: true},
	unix.V9FS_MAGIC:        {name: "9p", remote: true},
	0x47504653:             {name: "gpfs", remote: true},
	0x0bd00bd0:             {name: "lustre", remote: true},
	0x01161970:             {name: "gfs2", remote: true},
	unix.TMPFS_MAGIC:       {name: "tmpfs", volatile: true},
	unix.RAMFS_MAGIC:       {name: "ramfs", volatile: true},
	unix.EXT4_SUPER_MAGIC:  {name: "ext4"},
	unix.XFS_SUPER_MAGIC:   {name: "xfs"},
	unix.BTRFS_SUPER_MAGIC: {name: "btrfs"},
	unix.FUSE_SUPER_MAGIC:  {name: "fuse"},

	unix.OVERLAYFS_SUPER_MAGIC: {name: "overlay"},
}

func fileSystem(dir string) fsKind {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil {
		return fsKind{}
	}
	return kinds[uint32(st.Type)]
}
