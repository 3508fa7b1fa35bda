// Package afpacket is the capture engine for Linux: TPACKET_V3 rings, read
// without a copy and without a system call per packet. CAP_NET_RAW is all that
// it needs.
//
// Each interface has a ring (or several, Options.Fanout) of memory that it
// shares with the kernel. The kernel fills one block after the other and hands
// a block over when it is full or its retire time is up; Read returns packets
// that lie in such a block, and the block goes back with the Read after its
// last packet. A ring into which nothing comes for a while is unmapped until there
// is something in it. Packets of several rings that are ready at the same time come in
// the order of their times; a block that the kernel still fills is not waited
// for, so that packets of different interfaces can be out of order by Retire.
//
// What a capture shows is what tcpdump shows: VLAN tags, which the kernel takes
// out, are put back; a packet on the loopback interface is shown once.
// Differences: fragments stay fragments with Fanout, and "any" keeps VLAN tags.
//
// Own connections (Options.Own) are refused by the kernel, behind up to two VLAN
// tags, not inside of tunnels, PPPoE or IPv6 extension headers. There is room
// for the newest 280 of IPv4 or 100 of IPv6 less what the filter needs, and for
// fewer where net.core.optmem_max is small; changing the list of such many can
// lose packets of some microseconds.
package afpacket
