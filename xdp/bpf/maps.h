/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * The maps. "Shared" ones belong to the process and are reused by every port's object; the others exist
 * once per port. Sizes written here are placeholders where the loader sets them (src/limits.rs).
 */
#ifndef TAILWATER_MAPS_H
#define TAILWATER_MAPS_H

#include "types.h"
#include "verdict.h"

/* Shared. Key 0. Value: hash key, indirection table, registered EtherTypes, knobs. Written by user space through
 * mmap; read here. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct settings);
} settings SEC(".maps");

/* Shared. Key: what we listen on; address zero = any, port and protocol zero = the whole address.
 * Value: unused. Written by user space, read here in shared mode. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct listener);
	__type(value, __u32);
} listeners SEC(".maps");

/* Shared. Key: an address of this host. Value: unused. Written by user space (netlink mirror), read here in
 * router mode: such traffic is the kernel's. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct local_addr);
	__type(value, __u32);
} local_addrs SEC(".maps");

/* Shared. Key: five-tuple as it arrives. Value: worker. Written by user space; read here, and only while
 * settings.flow_exceptions_active is not zero. The least recently used flow gives way when full. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, struct flow);
	__type(value, __u32);
} flow_exceptions SEC(".maps");

/* Shared. Key: ifindex a FIB lookup may answer. Value: ifindex to transmit on (the same).
 * Written by user space, read by the redirect helper. An array, not a hash: its lookup is an index, cheaper
 * than finding the interface by number as bpf_redirect() does. */
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} tx_ports SEC(".maps");

/* The same again for the single-buffer program: the kernel lets a devmap serve either kind, not both. */
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} tx_ports_linear SEC(".maps");

/* Per port. Key: queue * workers + worker. Value: AF_XDP socket. Written by user space, read by the
 * redirect helper. */
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} xsks SEC(".maps");

/* Per port. Key: as in xsks. Value: fill level of that socket's receive ring, one cache line written here
 * and one by the worker, both through memory. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct ring_state);
} ring_states SEC(".maps");

/* Per port and CPU. Key: enum verdict. Value: packets and bytes. Written here, summed by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, VERDICT_COUNT);
	__type(key, __u32);
	__type(value, struct tally);
} verdicts SEC(".maps");

#endif
