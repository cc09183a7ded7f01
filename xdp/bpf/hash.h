/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * The flow hash: keyed, and the same for both directions of a flow. src/hash.rs is the same function; a
 * test runs both over the same vectors.
 */
#ifndef TAILWATER_HASH_H
#define TAILWATER_HASH_H

#include "types.h"

/* One keyed multiply-mix step. The multiplier is secret and odd. */
static __always_inline __u64 hash_mix(__u64 state, __u64 word, __u64 multiplier)
{
	state = (state ^ word) * multiplier;
	return state ^ (state >> 32);
}

static __always_inline __u64 hash_endpoint(const __u64 *addr, __be16 port, bool ip4, const __u64 *key)
{
	__u64 state;

	/* An IPv4 address fills the low 32 bits only, so address and port fit in one step. */
	if (ip4)
		return hash_mix(key[0], addr[0] ^ (__u64)port << 32, key[1]);
	state = hash_mix(key[0], addr[0], key[1]);
	state = hash_mix(state, addr[1], key[1]);
	return hash_mix(state, port, key[1]);
}

/* The sum makes both directions equal. Callers leave the ports 0 for fragments and for all but TCP and UDP. */
static __always_inline __u32 flow_hash(const struct flow *flow, const __u64 *key)
{
	bool ip4 = flow->family == FAMILY_IP4;
	__u64 sum = hash_endpoint(flow->src, flow->sport, ip4, key) +
		    hash_endpoint(flow->dst, flow->dport, ip4, key);

	return (__u32)hash_mix(sum, flow->proto, key[1]);
}

#endif
