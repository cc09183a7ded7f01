/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Types shared with user space. The Rust mirror is src/layout.rs; both sides assert the sizes.
 */
#ifndef TAILWATER_TYPES_H
#define TAILWATER_TYPES_H

#include <stddef.h>
#include <stdbool.h>
#include <linux/types.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#define CACHE_LINE 64

#define FAMILY_IP4 2  /* AF_INET */
#define FAMILY_IP6 10 /* AF_INET6 */

/* Indirection table: flow hash modulo this picks the worker. A power of two. */
#define INDIRECTION_LEN 128

/* EtherTypes that can be registered as encapsulations of ours. */
#define ETHERTYPES_MAX 4

enum port_mode {
	MODE_SHARED = 0,
	MODE_EXCLUSIVE = 1,
	MODE_ROUTER = 2,
};

/* Constants of one port, set before the program is loaded, so that the verifier drops dead branches. */
struct port {
	__u32 mode;      /* enum port_mode */
	__u32 place_xdp; /* router mode: forward in the kernel where possible */
	__u32 ifindex;   /* where the FIB lookup says the packet came in */
	__u32 workers;   /* sockets per queue */
	__u32 steer_vlan; /* 0: tagged frames go to the kernel (not in exclusive mode) */
	__u32 frags;     /* frames may have fragments outside the linear part: count their bytes too */
	__u8 mac[8];     /* own MAC address, 6 bytes used */
};

/* The panic button: what to do with every frame. */
enum bypass {
	BYPASS_NONE = 0,
	BYPASS_PASS = 1,
	BYPASS_DROP = 2,
};

struct settings {
	__u64 hash_key[2]; /* [1] is odd */
	__u32 flow_exceptions_active;
	__u32 bypass;
	__be16 ethertypes[ETHERTYPES_MAX]; /* registered encapsulations, 0: none */
	__u64 reserved[4];
	__u8 indirection[INDIRECTION_LEN];
};
_Static_assert(sizeof(struct settings) == 192, "layout.rs says 192");

/* A five-tuple in network byte order. An IPv4 address is the first 4 of 16 bytes, the rest zero. */
struct flow {
	__u64 src[2];
	__u64 dst[2];
	__be16 sport;
	__be16 dport;
	__u8 proto;
	__u8 family;
	__u16 zero;
};
_Static_assert(sizeof(struct flow) == 40, "layout.rs says 40");

struct listener {
	__u64 addr[2];
	__be16 port;
	__u8 proto;
	__u8 family;
	__u32 zero;
};
_Static_assert(sizeof(struct listener) == 24, "layout.rs says 24");

struct local_addr {
	__u64 addr[2];
	__u32 family;
	__u32 zero;
};
_Static_assert(sizeof(struct local_addr) == 24, "layout.rs says 24");

/* How full a worker's receive ring is, without a system call: one line for each writer. */
struct ring_state {
	__u32 sent;                                      /* written by the program */
	__u32 seen;                                      /* written by the program: `taken` when it last looked */
	__u32 capacity;                                  /* written by the worker at the start, 0: never shed */
	__u8 pad0[CACHE_LINE - 3 * sizeof(__u32)];
	__u32 taken;                                     /* written by the worker */
	__u8 pad1[CACHE_LINE - sizeof(__u32)];
};
_Static_assert(sizeof(struct ring_state) == 2 * CACHE_LINE, "one line each");

struct tally {
	__u64 packets;
	__u64 bytes;
};

#endif
